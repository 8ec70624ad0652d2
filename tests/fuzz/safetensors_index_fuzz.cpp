// SPDX-License-Identifier: MIT
// The index of a sharded checkpoint: whatever is accepted names files that lie beside it.
#include <blockattn/io/safetensors_index.hpp>
#include <cstdlib>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto require = [](bool ok) {
    if (!ok) std::abort();
  };
  const auto index = blockattn::read_safetensors_index({reinterpret_cast<const char*>(data), size});
  if (!index) {
    require(!index.error().message.empty());
    return 0;
  }
  require(!index->files.empty());
  for (const std::string& file : index->files)
    require(!file.empty() && file.front() != '.' && file.find('/') == std::string::npos);
  for (const auto& [name, number] : index->tensors) require(number < index->files.size());
  return 0;
}
