"""The Feast objects: entities, one view per feature table, request-time features, and the service that models ask for.

A feature is declared once, in transforms.py: views take their fields from what the features stage made. Views have no
time to live (ttl 0): a row holds until the next one, and rows stand at every boundary at which a value changes,
also when mail leaves a window. So a stale count cannot be served, and an age limit would only null what is known.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pandas as pd
from feast import Entity, FeatureService, FeatureView, Field, RequestSource, ValueType
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Bool, Float64, Int64, String, UnixTimestamp

from weakfish.feast.definitions import further_tasks, further_views, label_view, view_schema, view_source
from weakfish.project.paths import Project

here = Project.find(Path(__file__).parent)

sender = Entity(name="sender_domain", value_type=ValueType.STRING, description="The domain of a sender's address")
relay = Entity(name="relay_ip", value_type=ValueType.STRING, description="The host that handed mail over to us")
mailing_list = Entity(name="list_id", value_type=ValueType.STRING, description="The mailing list that mail came by")

sender_activity = FeatureView(
    name="sender_activity",
    description="What a sender's domain sent before",
    entities=[sender],
    ttl=timedelta(0),
    schema=view_schema(here, "sender_activity"),
    source=view_source(here, "sender_activity"),
)
relay_activity = FeatureView(
    name="relay_activity",
    description="What a relay handed over before",
    entities=[relay],
    ttl=timedelta(0),
    schema=view_schema(here, "relay_activity"),
    source=view_source(here, "relay_activity"),
)
list_activity = FeatureView(
    name="list_activity",
    description="What came by a mailing list before",
    entities=[mailing_list],
    ttl=timedelta(0),
    schema=view_schema(here, "list_activity"),
    source=view_source(here, "list_activity"),
)

# Views that params.yaml lists and nobody described above.
further, entities = further_views(here, sender, relay, mailing_list, sender_activity, relay_activity, list_activity)
globals().update(further | entities)  # Feast finds what has a name in this module

message = RequestSource(
    name="message",
    description="The message in hand; times in UTC, with zone or as whole seconds since 1970; what it lacks is null",
    schema=[
        Field(name="received_at", dtype=UnixTimestamp),
        Field(name="sent_at", dtype=UnixTimestamp),
        Field(name="n_links", dtype=Int64),
        Field(name="n_images", dtype=Int64),
        Field(name="n_recipients", dtype=Int64),
        Field(name="size_bytes", dtype=Int64),
        Field(name="is_html", dtype=Bool),
        Field(name="has_attachment", dtype=Bool),
        Field(name="content_type", dtype=String),
        Field(name="charset", dtype=String),
    ],
)


@on_demand_feature_view(
    name="request_features",
    description="The message in hand, and how long its sender has been known; times count in whole seconds",
    sources=[message, sender_activity],
    schema=[
        Field(name="hour_of_day", dtype=Int64),
        Field(name="day_of_week", dtype=Int64),
        Field(name="hours_since_first_seen", dtype=Float64),
        Field(name="hours_since_last_seen", dtype=Float64),
        Field(name="hours_since_sent", dtype=Float64),
        Field(name="links", dtype=Int64),
        Field(name="images", dtype=Int64),
        Field(name="recipients", dtype=Int64),
        Field(name="links_per_kilobyte", dtype=Float64),
        Field(name="images_per_kilobyte", dtype=Float64),
        Field(name="kilobytes", dtype=Float64),
        Field(name="is_bulk", dtype=Bool),
        Field(name="carries_attachment", dtype=Bool),
        Field(name="holds_html", dtype=Bool),
        Field(name="is_html_alone", dtype=Bool),
        Field(name="is_plain_text", dtype=Bool),
        Field(name="is_multipart", dtype=Bool),
        Field(name="is_ascii", dtype=Bool),
        Field(name="declares_charset", dtype=Bool),
    ],
)
def request_features(inputs: pd.DataFrame) -> pd.DataFrame:
    """Times of day and ages at ``received_at``; sizes and densities; how the message is made.

    A sender not seen before has no age, and a message that claims no time of its own was not sent any hours ago. Clocks
    that are wrong give hours below 0, which tells something of the sender too.
    """
    import pandas as pd  # Feast ships this function without its module

    def seconds(values: pd.Series) -> pd.Series:
        """Whole seconds since 1970: the online store keeps times to the second, so both sides count in seconds."""
        if pd.api.types.is_numeric_dtype(values):
            return values.astype("float64")
        times = pd.to_datetime(values, utc=True).dt.floor("s")
        return (times - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(seconds=1)

    received = seconds(inputs["received_at"])
    kilobytes = inputs["size_bytes"].astype("float64") / 1024
    features = pd.DataFrame(index=inputs.index)
    features["hour_of_day"] = (received // 3600 % 24).astype("Int64")
    features["day_of_week"] = ((received // 86400 + 3) % 7).astype("Int64")  # Monday is 0; 1970 began on a Thursday
    features["hours_since_first_seen"] = (received - seconds(inputs["first_seen_at"])) / 3600
    features["hours_since_last_seen"] = (received - seconds(inputs["last_seen_at"])) / 3600
    features["hours_since_sent"] = (received - seconds(inputs["sent_at"])) / 3600
    for name in ("links", "images", "recipients"):
        features[name] = inputs[f"n_{name}"].astype("Int64")
    features["links_per_kilobyte"] = inputs["n_links"] / kilobytes.clip(lower=1)
    features["images_per_kilobyte"] = inputs["n_images"] / kilobytes.clip(lower=1)
    features["kilobytes"] = kilobytes
    features["is_bulk"] = inputs["n_recipients"] > 1
    features["carries_attachment"] = inputs["has_attachment"]
    features["holds_html"] = inputs["is_html"]
    content, charset = inputs["content_type"].fillna(""), inputs["charset"].fillna("")
    features["is_html_alone"] = content == "text/html"
    features["is_plain_text"] = content == "text/plain"
    features["is_multipart"] = content.str.startswith("multipart/")
    features["is_ascii"] = charset == "us-ascii"
    features["declares_charset"] = charset != ""
    return features


labelled_message = Entity(
    name="labelled_message",
    join_keys=["message_id"],
    value_type=ValueType.STRING,
    description="A message with a label; keys no features",
)
all_features = [sender_activity, relay_activity, list_activity, *further.values(), request_features]

spam_labels = label_view(here, "spam", labelled_message)
spam_v1 = FeatureService(
    name="spam_v1",
    description="All that the spam classifier asks for",
    features=all_features,
)

# Tasks that params.yaml lists and that are not described here.
globals().update(further_tasks(here, labelled_message, all_features, spam_v1))
