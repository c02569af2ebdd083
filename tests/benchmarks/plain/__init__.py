"""The two plain scripts that one scenario replaces: no orchestration, no checks, no proof."""
