"""The environment of this service's migrations."""

from kernel import migrations
from services.jobs.models import Base

migrations.run(Base.metadata)
