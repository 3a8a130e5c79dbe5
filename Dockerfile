# llmtool in a container: docker build -t llmtool .        docs/containers.md
# EXTRAS: extras of the package, with commas between; models brings torch. TORCH_INDEX: where pip finds torch, if elsewhere
# than usual, which on x86-64 is its CUDA build.
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS build
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY llmtool llmtool
ENV LLMTOOL_REQUIRE_NATIVE=1
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:${PYTHON}-slim
ARG EXTRAS=plots,parquet,sft
ARG TORCH_INDEX=
COPY constraints.txt /tmp/constraints.txt
COPY --from=build /wheels /wheels
RUN if [ -n "$TORCH_INDEX" ]; then pip install --no-cache-dir -c /tmp/constraints.txt --index-url "$TORCH_INDEX" torch; fi \
    && pip install --no-cache-dir -c /tmp/constraints.txt "$(echo /wheels/llmtool-*.whl)[${EXTRAS}]" \
    && rm -rf /wheels /tmp/constraints.txt \
    && useradd --uid 1000 --create-home llmtool
USER 1000
WORKDIR /work
ENTRYPOINT ["llmtool"]
CMD ["--help"]
