# A registry for the stand-ins, so that an engine in a test host pulls them by their public names, through a mirror.
ARG BASE
FROM ${BASE}
RUN apt-get update -qq \
  && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends docker-registry \
  && apt-get clean && rm -rf /var/lib/apt/lists/*
ENV REGISTRY_LOG_LEVEL=error OTEL_TRACES_EXPORTER=none
RUN printf '%s\n' 'version: 0.1' 'storage: {filesystem: {rootdirectory: /srv/registry}}' 'http: {addr: ":5000"}' \
    >/etc/docker/registry/config.yml
EXPOSE 5000
CMD ["docker-registry", "serve", "/etc/docker/registry/config.yml"]
