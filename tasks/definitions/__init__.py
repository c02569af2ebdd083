"""What the model is: a reference to its builder with arguments, the built-in definitions, and the fingerprint.

Second room. `define(config, dataset)` fixes every argument of the builder, so that the same `Definition` builds the same
architecture in another process; `build(definition, sample)` builds it there and holds it against the fingerprint.
"""

from tasks.definitions.build import ModelConfig, SubclassedConfig, build, define
from tasks.definitions.fingerprint import Definition, VariableSpec
from tasks.definitions.mismatch import check_fingerprint

__all__ = ["Definition", "ModelConfig", "SubclassedConfig", "VariableSpec", "build", "check_fingerprint", "define"]
