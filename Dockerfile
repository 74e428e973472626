# An image that trains, previews and measures:
#   docker build -t mixstage .
#   docker run --rm --gpus all --shm-size 8g -v /data/imagenet:/data mixstage train /data --model resnet50 --mixer CutMix
FROM python:3.12-slim

# Triton compiles the function that launches its kernels with the C compiler of the machine
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*

COPY . /mixstage
RUN pip install --no-cache-dir --constraint /mixstage/constraints.txt '/mixstage[dali,demo,torchvision]'

# what `docker run --gpus` hands in, besides the driver of the host
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility,video
WORKDIR /work
ENTRYPOINT ["mixstage"]
CMD ["doctor"]
