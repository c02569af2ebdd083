"""What is checked before anything of a bundle is loaded: files, configurations, graphs, and whose code would run.

Sixth room. `inspect_bundle` and `inspect_path` read the bytes and return an `Inspection`; `refuse_dangerous` raises where
it found what nobody allowed; `require_trusted` refuses to import a definition that nobody on this machine ever ran;
`sandbox.confine` takes from the process that loads what a model does not need.
"""

from tasks.safety.findings import Finding, Inspection, how_to_allow, refuse_dangerous
from tasks.safety.inspection import inspect_bundle, inspect_draft, inspect_path
from tasks.safety.signing import check_signature, check_signer, sign_bundle
from tasks.safety.trust import Trusted, distrust, is_own, require_trusted, trust, trusted

__all__ = [
    "Finding",
    "Inspection",
    "Trusted",
    "check_signature",
    "check_signer",
    "distrust",
    "how_to_allow",
    "inspect_bundle",
    "inspect_draft",
    "inspect_path",
    "is_own",
    "refuse_dangerous",
    "require_trusted",
    "sign_bundle",
    "trust",
    "trusted",
]
