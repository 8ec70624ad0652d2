// SPDX-License-Identifier: MIT
// config.json: whatever is accepted is a configuration that can be computed with.
#include <blockattn/io/hf_config.hpp>
#include <cstdlib>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto require = [](bool ok) {
    if (!ok) std::abort();
  };
  const auto config = blockattn::read_hf_config({reinterpret_cast<const char*>(data), size});
  if (!config) {
    require(!config.error().message.empty());
    return 0;
  }
  require(blockattn::validate(config->model).has_value());
  const auto frequencies = blockattn::make_frequencies(config->model);
  require(frequencies.has_value() && frequencies->table_floats() <= 512);
  return 0;
}
