"""What is checked before anything of a bundle is loaded: files, configurations, graphs, and whose code would run.

Sixth room. `inspect_bundle` reads the bytes and returns findings; `require_trusted` refuses to import a definition that
nobody on this machine ever ran.
"""

from tasks.safety.inspection import Finding, inspect_bundle, refuse_dangerous
from tasks.safety.trust import require_trusted, trust

__all__ = ["Finding", "inspect_bundle", "refuse_dangerous", "require_trusted", "trust"]
