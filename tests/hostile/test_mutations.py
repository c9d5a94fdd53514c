"""Documents of the zoo changed at random: all that is done with them ends well, or in an error of graphengine's.

`GRAPHENGINE_MUTATIONS=20000 pytest tests/hostile/test_mutations.py` tries more; `GRAPHENGINE_MUTATIONS_SEED`
chooses others.
"""

import json
import os

import graphengine as ge
from tests.hostile.mutations import Mutator
from tests.hostile.use import use


def test_documents_changed_at_random_give_no_other_error() -> None:
    mutator = Mutator(int(os.environ.get("GRAPHENGINE_MUTATIONS_SEED", "0")))
    refused = 0
    for number in range(count := int(os.environ.get("GRAPHENGINE_MUTATIONS", "40"))):
        text = json.dumps(mutator.document())
        try:
            use(ge.Graph.from_json(text))
        except ge.GraphEngineError as error:
            str(error)
            refused += 1
        except BaseException as error:
            error.add_note(f"mutation {number}: {text}")
            raise
    assert 0.3 < refused / count < 0.98
