"""The load engine: one load plan, from its source into its target, once."""

from services.jobs.loading.preparing import prepare

__all__ = ["prepare"]
