# One image for the API, the workers and the CLI. Dependencies come from the hashed lock files only.
FROM python:3.11.14-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
RUN python -m venv /opt/springline
COPY requirements/build.txt requirements/run.txt requirements/
RUN /opt/springline/bin/pip install --require-hashes --only-binary :all: -r requirements/build.txt -r requirements/run.txt
COPY pyproject.toml README.md worker.py ./
COPY springline springline
COPY activities activities
COPY workflows workflows
COPY entrypoints entrypoints
RUN /opt/springline/bin/pip install --no-deps --no-index --no-build-isolation .

FROM python:3.11.14-slim-bookworm
COPY --from=build /opt/springline /opt/springline
ENV PATH=/opt/springline/bin:$PATH PYTHONUNBUFFERED=1
RUN useradd --system --uid 10001 springline
USER springline
WORKDIR /tmp
# The worker by default; the API is `python -m entrypoints.api`, the operator's CLI `springline`.
CMD ["python", "-m", "worker"]
