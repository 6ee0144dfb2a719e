# Stands in for the image of the same name: Python 3.11 with pip and venv, as `python` and `pip` on PATH.
ARG BASE
FROM ${BASE}
RUN apt-get update -qq \
  && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
    netbase python3 python3-pip python3-venv tzdata \
  && apt-get clean && rm -rf /var/lib/apt/lists/* /usr/lib/python3*/EXTERNALLY-MANAGED \
  && for name in python python3 python3.11; do ln -s /usr/bin/python3.11 "/usr/local/bin/$name"; done \
  && for name in pip pip3; do ln -s /usr/bin/pip3 "/usr/local/bin/$name"; done
ENV LANG=C.UTF-8
CMD ["python3"]
