"""The JSON form of a graph."""

from graphengine.ir.spec.io import constants_of as constants_of
from graphengine.ir.spec.io import digest as digest
from graphengine.ir.spec.io import from_json as from_json
from graphengine.ir.spec.io import load as load
from graphengine.ir.spec.io import save as save
from graphengine.ir.spec.io import to_json as to_json
from graphengine.ir.spec.schema import json_schema as json_schema
