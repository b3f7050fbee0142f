"""The process of the jobs service, or of one of its workers."""

from kernel import app
from services.jobs.settings import Settings

if __name__ == "__main__":
    settings = Settings()
    app.main("jobs", settings, serve=lambda environment: app.Parts())
