"""Write the allow-lists of inspection from the TensorFlow and Keras that are pinned: `python -m tests.safety.allow_lists`.

Run after a pin was changed, and read the difference before it is committed: what stands in these lists is let through.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "tasks" / "safety"

# Namespaces of Keras whose classes and functions are parts of models. What reads files, downloads or saves lives elsewhere.
_NAMESPACES = {
    "keras", "keras.activations", "keras.constraints", "keras.distillation", "keras.dtype_policies", "keras.initializers",
    "keras.layers", "keras._legacy.layers", "keras._legacy.losses", "keras.losses", "keras.metrics",
    "keras.ops", "keras.ops.image", "keras.ops.linalg", "keras.ops.nn", "keras.ops.numpy", "keras.optimizers",
    "keras.optimizers.schedules", "keras.quantizers", "keras.random", "keras.regularizers",
}  # fmt: skip
# They run code, load other files, or take functions as arguments.
_ACTIVE = {
    "Lambda", "TFSMLayer", "TorchModuleWrapper", "FlaxLayer", "JaxLayer", "get", "serialize", "deserialize",
    "associative_scan", "cond", "custom_gradient", "fori_loop", "map", "scan", "switch", "vectorize", "vectorized_map",
    "while_loop", "AssociativeScan", "Cond", "ForiLoop", "Map", "Scan", "Switch", "VectorizedMap", "WhileLoop",
}  # fmt: skip

# Stateless, or so TensorFlow says, and yet no part of a model.
_NOT_PURE = re.compile(
    r"Dataset|TPU|Tpu|Xla|Nccl|Collective|Debug|PyFunc|Iterator|DTensor|BoostedTrees|Cudnn|Mkl|Rpc|^_|Reader|File|Queue|Barrier"
    r"|^(Abort|BatchFunction|Copy|CopyHost|CopyToMesh|CopyToMeshGrad|CustomAggregator|DecodeProtoV2|EncodeProto|For"
    r"|GenerateVocabRemapping|GetDeadline|GetOptions|HostConst|ImmutableConst|InitializeTable|MlirPassthroughOp|Prelinearize"
    r"|PrelinearizeTuple|InfeedEnqueuePrelinearizedBuffer|Relayout|RelayoutLike|RemoteCall|Batch|Unbatch|UnbatchGrad"
    r"|IsVariableInitialized|AccumulatorApplyGradient|ComputeBatchSize|CompressElement|UncompressElement|SdcaOptimizer.*"
    r"|LookupTable(Export|Find|Import|Insert|Size))$"
)
# Stateful, and needed by models: variables, optimizers, lookup tables, random numbers, lists, control flow, checkpoints.
_NEEDED = re.compile(
    r"^(VarHandleOp|ReadVariableOp|AssignVariableOp|AssignAddVariableOp|AssignSubVariableOp|VarIsInitializedOp|VariableShape"
    r"|DisableCopyOnRead|DestroyResourceOp|Resource(Sparse)?Apply\w+|ResourceGather(Nd)?|ResourceScatter\w+"
    r"|ResourceStridedSliceAssign|ResourceCountUpTo|VariableV2|Variable|GuaranteeConst"
    r"|HashTableV2|MutableHashTableV2|MutableHashTableOfTensorsV2|MutableDenseHashTableV2|Anonymous\w*HashTable\w*"
    r"|InitializeTableV2|LookupTable(Export|Find|Import|Insert|Remove|Size)V2"
    r"|RandomUniform(Int)?|RandomStandardNormal|TruncatedNormal|RandomGamma|RandomPoisson(V2)?|RandomShuffle"
    r"|ParameterizedTruncatedNormal|Multinomial|RngSkip|RngReadAndSkip|Stateful(Uniform|StandardNormal|TruncatedNormal)\w*"
    r"|StatefulRandomBinomial|StatelessRandomGetAlg|NonDeterministicInts|(LogUniform|Uniform)CandidateSampler|RandomCrop"
    r"|SampleDistortedBoundingBox(V2)?|TensorArray\w*V3|TensorArrayGradWithShape|Stack(Push|Pop|Close)?V2|Empty|DeepCopy"
    r"|If|While|Case|StatefulPartitionedCall|Assert|CheckNumerics(V2)?|TemporaryVariable)$"
)
# Files, but under the names that the loader gives: `tasks.safety.graph_files` looks where each name comes from.
_FILES = {"InitializeTableFromTextFileV2", "MergeV2Checkpoints", "RestoreV2", "SaveV2", "ShardedFilename"}

_REACHES = [
    ("runs Python on the host", r"PyFunc|NumpyFunc|GeneratorDataset"),
    ("talks to other machines", r"Rpc|DataService|Collective|Nccl|RemoteCall|^_?(Host)?(Send|Recv)$|Heartbeat|Distributed"),
    ("reads or writes files", r"File|Dataset|Reader|LMDB|Sql|CSV|Snapshot|Summary|ImmutableConst|RecordInput|Save|Restore|"
     r"MatchingFiles|ImportEvent|LoadAndRemap|VocabRemapping|EncodeProto|DecodeProto|CalibrationStatistics|DumpTensor"),
    ("copies tensors to a debugger's address", r"Debug|^Copy"),
    ("runs a program for another processor", r"TPU|Tpu|Xla"),
    ("ends or stalls the process", r"^(Abort|Sleep.*)$"),
]  # fmt: skip


def keras_names() -> dict[str, Any]:
    """Classes and functions that a configuration may name, as `module.Name`."""
    from keras.src.api_export import REGISTERED_NAMES_TO_OBJS
    from keras.src.saving.keras_saveable import KerasSaveable

    classes, functions = set(), set()
    for path, found in REGISTERED_NAMES_TO_OBJS.items():
        namespace, _, name = path.rpartition(".")
        if namespace not in _NAMESPACES or name in _ACTIVE:
            continue
        if inspect.isclass(found) and hasattr(found, "from_config"):
            classes |= {path, f"{found.__module__}.{found.__name__}"}
        elif inspect.isfunction(found) and namespace != "keras":
            functions |= {path, f"{found.__module__}.{found.__name__}"}
    # Keras looks a class up by its own module too: operations of a functional graph have no other name.
    for found in _subclasses(KerasSaveable):
        if found.__name__ not in _ACTIVE and not found.__module__.startswith(("keras.src.callbacks", "keras.src.export")):
            classes.add(f"{found.__module__}.{found.__name__}")
    return {"keras": version("keras"), "classes": sorted(classes), "functions": sorted(functions)}


def operations() -> dict[str, Any]:
    """Operations that a graph may hold, and what the others reach, where that can be told by their name."""
    import tensorflow as tf
    from tensorflow.core.framework import op_def_pb2
    from tensorflow.python.client import pywrap_tf_session

    registered = op_def_pb2.OpList()
    registered.ParseFromString(pywrap_tf_session.TF_GetBuffer(pywrap_tf_session.TF_GetAllOpList()))
    public = set(dir(tf.raw_ops))
    allowed, reaches = set(_FILES), {}
    for op in registered.op:
        pure = not op.is_stateful and not _NOT_PURE.search(op.name)
        if op.name in public and (pure or _NEEDED.match(op.name)):
            allowed.add(op.name)
        elif op.name not in allowed:
            deed = next((deed for deed, names in _REACHES if re.search(names, op.name)), None)
            if deed:
                reaches.setdefault(deed, []).append(op.name)
    allowed |= {"Placeholder", "NoOp", "_Arg", "_Retval"}
    return {
        "tensorflow": version("tensorflow"),
        "allowed": sorted(allowed),
        "reaches": {deed: sorted(names) for deed, names in sorted(reaches.items())},
    }


def _subclasses(cls: type) -> Iterator[type]:
    for sub in cls.__subclasses__():
        if sub.__module__.startswith("keras."):
            yield sub
            yield from _subclasses(sub)


def main() -> None:
    for name, content in (("allowed_keras.json", keras_names()), ("allowed_operations.json", operations())):
        (FOLDER / name).write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
