# longread serve on a CPU. Built without a network, from wheels that were fetched before:
#
#   pip wheel . --no-deps --wheel-dir wheels
#   pip download torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu --dest wheels
#   pip download --only-binary :all: --find-links wheels --dest wheels torch==2.13.0 './wheels/longread-0.1.0-py3-none-any.whl[serve]'
#   docker build --network none --tag longread .
#   docker run --read-only --tmpfs /tmp --publish 8000:8000 --volume "$PWD/out/mail/runs/RUN:/model:ro" longread
#
FROM python:3.11-slim

COPY wheels /wheels
RUN pip install --no-cache-dir --no-index --find-links /wheels 'longread[serve]' && rm -rf /wheels

RUN useradd --create-home --uid 10001 longread
USER longread
WORKDIR /home/longread
ENV HF_HUB_OFFLINE=1 PYTHONUNBUFFERED=1

EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD \
    ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/ready', timeout=4)"]
# The exec form: SIGTERM reaches the service, which answers what it took.
ENTRYPOINT ["longread", "serve"]
CMD ["/model", "--host", "0.0.0.0", "--port", "8000"]
