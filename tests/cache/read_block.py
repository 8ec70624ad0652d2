# SPDX-License-Identifier: MIT
# Reads a block's file with Python's own library, as any reader of safetensors would (docs/storage.md). Prints: tokens,
# first id, last id, and of the last layer, head, token and dim the bits of the key and of the value.
import json
import struct
import sys

with open(sys.argv[1], "rb") as f:
    data = f.read()
(header_bytes,) = struct.unpack_from("<Q", data)
header = json.loads(data[8 : 8 + header_bytes])
start = 8 + header_bytes
about = header.pop("__metadata__")
FORMATS = {"F32": "<I", "BF16": "<H", "I32": "<i"}  # floats as bits


def element(name, *index):
    tensor = header[name]
    at = 0
    for i, size in zip(index, tensor["shape"], strict=True):
        assert 0 <= i < size
        at = at * size + i
    form = FORMATS[tensor["dtype"]]
    at = tensor["data_offsets"][0] + at * struct.calcsize(form)
    return struct.unpack_from(form, data, start + at)[0]


def key(layer, head, token, dim):  # (kv_heads, tiles of 16 keys, lanes of a key, 16 keys, dims of a lane)
    lane = header["layers.0.keys"]["shape"][4]
    return element(f"layers.{layer}.keys", head, token // 16, dim // lane, token % 16, dim % lane)


def value(layer, head, token, dim):  # (kv_heads, groups of keys, dims, keys of a group)
    lane = header["layers.0.values"]["shape"][3]
    return element(f"layers.{layer}.values", head, token // lane, dim, token % lane)


tokens, layers = int(about["tokens"]), int(about["layers"])
last = (layers - 1, int(about["kv_heads"]) - 1, tokens - 1, int(about["head_dim"]) - 1)
print(tokens, element("tokens", 0), element("tokens", tokens - 1), key(*last), value(*last))
