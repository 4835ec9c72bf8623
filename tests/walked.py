"""Files as five strangers bring them: payments, tweets, a server's log, tickets of an office program, flats."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

START = datetime(2025, 1, 1, tzinfo=UTC)


def payments(folder: Path, months: Sequence[int], amount: str = "amount") -> None:
    """Card payments, two files a month, one in fifty a fraud that the bank found out about."""
    folder.mkdir(parents=True, exist_ok=True)
    for month in months:
        draw = random.Random(month)  # noqa: S311
        rows = []
        for number in range(800):
            fraud = draw.random() < 0.02
            paid = datetime(2025, month, 1, tzinfo=UTC) + timedelta(minutes=draw.randrange(28 * 24 * 60))
            sum_of = draw.lognormvariate(5.5 if fraud else 3, 0.6)
            country = (
                draw.choice(("NG", "RU", "BR")) if fraud and draw.random() < 0.7 else draw.choice(("DE", "FR", "NA"))
            )
            values = [f"p{month:02}{number:05}", f"{paid:%Y-%m-%d %H:%M:%S}", f"c{draw.randrange(90):04}"]
            rows.append([*values, f"{sum_of:.2f}", country, draw.choice(("shop", "fuel", "web")), str(int(fraud))])
        rows.sort(key=lambda row: row[1])
        header = ["payment_id", "paid_at", "card", amount, "country", "kind", "is_fraud"]
        for part, of in (("a", rows[:400]), ("b", rows[400:])):
            lines = [",".join(row) for row in [header, *of]]
            (folder / f"2025-{month:02}-{part}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def tweets(file: Path, rows: int = 900) -> None:
    """Tweets as their API gave them: ids beyond a double, times in its own format, a user within each."""
    draw = random.Random(11)  # noqa: S311
    glad, sad = ("love", "great", "thank you", "best"), ("delayed", "lost my bag", "rude", "worst")
    with file.open("w", encoding="utf-8") as stream:
        for number in range(rows):
            words = [*draw.sample(glad if draw.random() < 0.4 else sad, 2), "flight", "@airline"]
            user = draw.randrange(70)
            tweet = {
                "id": 567_900_433_542_488_064 + 7 * number,
                "created_at": f"{START + timedelta(minutes=131 * number):%a %b %d %H:%M:%S +0000 %Y}",
                "text": " ".join(words),
                "retweet_count": draw.randrange(5),
                "user": {"screen_name": f"user{user}", "followers": user * 13, "verified": user % 9 == 0},
            }
            stream.write(json.dumps(tweet) + "\n")


def access_log(file: Path, rows: int = 1200) -> None:
    """A web server's log in the combined format; every tenth client looks for what is not there."""
    draw = random.Random(13)  # noqa: S311
    with file.open("w", encoding="utf-8") as stream:
        for number in range(rows):
            client = draw.randrange(60)
            bad = client % 10 == 0
            path = (
                draw.choice(("/wp-login.php", "/.env", "/admin")) if bad else draw.choice(("/", "/docs", "/cart?id=7"))
            )
            at = f"{START + timedelta(minutes=61 * number):%d/%b/%Y:%H:%M:%S +0000}"
            size = "-" if bad else str(draw.randrange(200, 9000))
            agent = "curl/8.5" if bad else "Mozilla/5.0 (X11; Linux x86_64) Firefox/133.0"
            stream.write(
                f'10.0.0.{client} - - [{at}] "GET {path} HTTP/1.1" {404 if bad else 200} {size} "-" "{agent}"\n'
            )


def tickets(file: Path, rows: int = 700) -> None:
    """Support tickets as an office program exports them: semicolons, cp1252, German dates and commas."""
    draw = random.Random(17)  # noqa: S311
    kinds = {"Rückgabe": ("zurück", "Größe", "umtauschen"), "Lieferung": ("Päckchen", "verspätet", "Straße")}
    lines = ["Ticket;Eröffnet;Kunde;Text;Betrag;Art"]
    for number in range(rows):
        kind = draw.choice(list(kinds))
        at = START + timedelta(minutes=173 * number)
        said = f"Guten Tag, {' '.join(draw.sample(kinds[kind], 2))}, {draw.randrange(9)} Mal"
        known = kind if draw.random() < 0.5 else ""
        amount, customer = f"{draw.randrange(1, 300)},{number % 100:02}", f"K{draw.randrange(50):03}"
        lines.append(f'T{number:05};{at:%d.%m.%Y %H:%M};{customer};"{said}";{amount};{known}')
    file.write_bytes(("\r\n".join(lines) + "\r\n").encode("cp1252"))


def flats(file: Path, rows: int = 500) -> None:
    """Flats on offer: a table without times, in which some rows stand twice."""
    draw = random.Random(19)  # noqa: S311
    lines = ["flat\trooms\trent\tcity\tlift"]
    for number in range(rows):
        rooms = draw.randint(1, 6)
        rent, city = round(rooms * 230 * draw.lognormvariate(0, 0.3)), draw.choice(("Kiel", "Bonn", "Ulm"))
        lines.append(f"f{number:04}\t{rooms}\t{rent}\t{city}\t{draw.choice(('yes', 'no'))}")
    file.write_text("\n".join([*lines, *lines[1:4]]) + "\n", encoding="utf-8")
