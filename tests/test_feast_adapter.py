"""The door to Feast: its import is cheap and leaves nothing changed behind, and the private names are still there."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest
from projects import REPOSITORY

SOURCE = REPOSITORY / "src/weakfish"


def run(code: str) -> str:
    """What a fresh interpreter prints, in which nothing was imported."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_feast_imports_no_torch_and_rewrites_no_class() -> None:
    code = """
import sys, typeguard
checked = typeguard.typechecked
import weakfish.feast.adapter, feast
print("torch" in sys.modules, hasattr(feast.FeatureView.__init__, "__wrapped__"), typeguard.typechecked is checked)
try: typeguard.check_type("x", int)
except typeguard.TypeCheckError: print("checks")
"""
    assert run(code).splitlines() == ["False False True", "checks"]


def test_feasts_classes_still_refuse_labels_as_the_source_of_features() -> None:
    code = """
import weakfish.feast.adapter
from feast import Entity, FeatureView, FileSource, ValueType
from feast.labeling.label_view import LabelView
order, source = Entity(name="order", value_type=ValueType.STRING), FileSource(name="x", path="x", timestamp_field="t")
labels = LabelView(name="labels", entities=[order], schema=[], source=source, online=False)
try: FeatureView(name="over", entities=[order], source=labels)
except TypeError: print("refused")
"""
    assert run(code) == "refused"


def test_torch_can_be_imported_afterwards_and_feast_finds_it_when_it_makes_tensors() -> None:
    code = """
import weakfish.feast.adapter
from feast.online_response import OnlineResponse
from feast.protos.feast.serving.ServingService_pb2 import GetOnlineFeaturesResponse
from feast.protos.feast.types.Value_pb2 import Value
answer = GetOnlineFeaturesResponse()
answer.metadata.feature_names.val.append("x")
answer.results.add(values=[Value(double_val=2.0)], statuses=[1])
print(OnlineResponse(answer).to_tensor()["x"].tolist())
import torch
print(torch.ones(1).item())
"""
    assert run(code).splitlines() == ["[2.0]", "1.0"]


def test_feast_converts_all_values_by_the_function_that_refuses_nulls_inside_arrays() -> None:
    code = """
import weakfish.feast.adapter
from feast.type_map import python_values_to_proto_values
from feast.value_type import ValueType
print(list(python_values_to_proto_values([["a"], None], ValueType.STRING_LIST)[0].string_list_val.val))
for kind in (ValueType.STRING_LIST, ValueType.UNKNOWN):
    try: python_values_to_proto_values([["a", None]], kind)
    except Exception as error: print(type(error).__name__)
"""
    assert run(code).splitlines() == ["['a']", "StoreError", "ValueError"]


def test_feasts_duckdb_store_connects_in_utc_whatever_the_zone_of_the_machine() -> None:
    code = """
import os
os.environ["TZ"] = "America/New_York"
import weakfish.feast.offline
from feast.infra.offline_stores import duckdb
print(*duckdb.duckdb.connect().cursor().execute("SELECT current_setting('TimeZone')").fetchone())
"""
    assert run(code) == "UTC"


def test_feast_says_which_views_a_request_of_features_is_about_and_which_vectors_are_of_another_length() -> None:
    code = """
from weakfish.feast.adapter import check_vectors, requested_views
import inspect
import pyarrow as pa
from feast import FeatureView, Field, FileSource
from feast.types import Array, Float32
print(list(inspect.signature(requested_views).parameters))
view = FeatureView(name="v", source=FileSource(name="x", path="x", timestamp_field="t"),
                   schema=[Field(name="at", dtype=Array(Float32), vector_index=True, vector_length=2)])
check_vectors(pa.table({"at": [[1.0, 2.0]]}), view)
try: check_vectors(pa.table({"at": [[1.0]]}), view)
except ValueError as error: print(error)
"""
    assert run(code).splitlines() == [
        "['registry', 'project', 'features', 'allow_cache', 'hide_dummy_entity']",
        "Row 0: Vector length 1 does not match expected 2 for feature 'at' in feature view 'v'.",
    ]


def test_what_was_imported_before_is_left_alone() -> None:
    code = """
import sys, types
sys.modules["torch"] = torch = types.ModuleType("torch")
import feast
made = feast.FeatureView.__init__
import weakfish.feast.adapter
from feast import torch_wrapper
print(feast.FeatureView.__init__ is made, sys.modules["torch"] is torch is torch_wrapper.get_torch())
"""
    assert run(code) == "True True"


def test_a_torch_that_was_imported_before_is_found() -> None:
    code = """
import sys, types
sys.modules["torch"] = torch = types.ModuleType("torch")
import weakfish.feast.adapter
from feast import torch_wrapper
print(sys.modules["torch"] is torch is torch_wrapper.get_torch())
"""
    assert run(code) == "True"


def test_a_failed_import_leaves_no_trace() -> None:
    code = """
import sys, typeguard
checked = typeguard.typechecked
class Broken:
    def find_spec(self, name, path=None, target=None):
        if name == "feast.feature_store": raise ImportError("broken")
sys.meta_path.insert(0, Broken())
try: import weakfish.feast.adapter
except ImportError as error: print(error)
print("torch" in sys.modules, typeguard.typechecked is checked)
"""
    assert run(code).splitlines() == ["broken", "False True"]


def test_threads_that_import_at_once_find_torch_and_the_type_checks_afterwards() -> None:
    code = """
import threading, typeguard
checked = typeguard.typechecked
def work(): import weakfish.feast.adapter
threads = [threading.Thread(target=work) for _ in range(4)]
[thread.start() for thread in threads]; [thread.join() for thread in threads]
import feast, torch
print(typeguard.typechecked is checked, feast.FeatureView.__name__, torch.__name__)
"""
    assert run(code) == "True FeatureView torch"


def importers() -> list[str]:
    return [
        str(file.relative_to(SOURCE))
        for file in sorted(SOURCE.rglob("*.py"))
        if file.name != "adapter.py" and any(is_feast(node) for node in ast.walk(tree(file.relative_to(SOURCE))))
    ]


def tree(file: object) -> ast.Module:
    return ast.parse((SOURCE / str(file)).read_text(encoding="utf-8"))


def is_feast(node: ast.AST) -> bool:
    if isinstance(node, ast.ImportFrom):
        return (node.module or "").split(".")[0] == "feast"
    return isinstance(node, ast.Import) and any(alias.name.split(".")[0] == "feast" for alias in node.names)


def is_adapter(node: ast.AST) -> bool:
    if isinstance(node, ast.ImportFrom):
        return node.module == "weakfish.feast.adapter"
    return isinstance(node, ast.Import) and node.names[0].name == "weakfish.feast.adapter"


def blocks(node: ast.AST) -> list[list[ast.stmt]]:
    """All lists of statements that import Feast, but those for type checkers."""
    found = []
    for part in ast.walk(node):
        if not (isinstance(part, ast.If) and ast.unparse(part.test) == "TYPE_CHECKING"):
            body = getattr(part, "body", None)
            if isinstance(body, list) and any(is_feast(statement) for statement in body):
                found.append(body)
    return found


@pytest.mark.parametrize("file", importers())
def test_whoever_imports_feast_imports_the_adapter_first(file: str) -> None:
    module = tree(file)
    begun = [node for node in module.body if is_feast(node) or is_adapter(node)]
    if begun and is_adapter(begun[0]):
        return
    for body in blocks(module):
        first = next(node for node in body if is_feast(node) or is_adapter(node))
        assert is_adapter(first), f"line {first.lineno}"
