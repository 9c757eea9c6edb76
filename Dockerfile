# Image of `python -m tools`; not built by the tests. See docs/hospital.md.
#
#   docker build -t chest-refseg .
#   docker run --rm --network none --gpus all -v /scans:/in:ro -v /masks:/out chest-refseg \
#       segment --bundle mmi_unet --input /in --output /out --seg binary
FROM python:3.11-slim

WORKDIR /opt/chest-refseg
COPY requirements.txt pyproject.toml README.md LICENSE ./
RUN pip install --no-cache-dir -r requirements.txt
# With the trained weights in bundles/*/models, which git does not hold.
COPY common common
COPY tools tools
COPY bundles bundles
# Editable, as bundles are looked for beside `common`.
RUN pip install --no-cache-dir --no-deps -e . \
    && useradd --create-home --uid 1000 refseg
USER refseg
ENV PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1
ENTRYPOINT ["python", "-m", "tools"]
CMD ["--help"]
