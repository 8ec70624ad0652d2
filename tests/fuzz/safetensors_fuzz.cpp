// SPDX-License-Identifier: MIT
// Safetensors files from memory and through a function: both agree, and whatever opens can be read in full.
#include <blockattn/io/safetensors.hpp>
#include <cstdlib>

namespace ba = blockattn;

namespace {

void require(bool ok) {
  if (!ok) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  const auto read = [bytes](std::uint64_t offset, std::span<std::byte> out) -> ba::result<void> {
    require(offset <= bytes.size() && out.size() <= bytes.size() - offset);
    std::memcpy(out.data(), bytes.data() + offset, out.size());
    return {};
  };
  const auto file = ba::safetensors_file::from_memory(bytes);
  const auto called = ba::safetensors_file::from_callback(size, read);
  require(file.has_value() == called.has_value());
  if (!file) {
    require(!file.error().message.empty());
    return 0;
  }
  require(file->metadata() == called->metadata() && file->tensors().size() == called->tensors().size());
  std::uint64_t sum = 0;
  for (const ba::safetensors_tensor& tensor : file->tensors()) {
    require(file->find_tensor(tensor.name) == &tensor);
    const auto a = file->load(tensor), b = called->load(*called->find_tensor(tensor.name));
    require(a && b && a->bytes().size() == tensor.bytes && b->bytes().size() == tensor.bytes);
    require(tensor.bytes == 0 || std::memcmp(a->bytes().data(), b->bytes().data(), a->bytes().size()) == 0);
    sum += tensor.bytes;
  }
  require(sum < size);  // no byte is two tensors', and the header is nobody's
  return 0;
}
