// SPDX-License-Identifier: MIT
// Checks the rules of the source tree that no compiler checks:
//   includes    point one way (core <- tensor <- simd <- kernel; see `may_include`)
//   walls       a third party's header appears only where it may
//   forbidden   nothing in include/ aborts, exits, prints or throws (but result.hpp)
//   heads       licence line, purpose line, #pragma once, at most 450 lines unless a reason is given at the head
//   examples    a C++ block in README.md or docs/ equals the region of the example it names
//
//     house ROOT                      checks a tree; prints `file:line: rule: what`, one line each; exit 1 if any
//     house ROOT --expect FILE        the complaints must be those listed in FILE: how this program is tested
//
// A block in Markdown names its source in a comment on the line before its fence, and the region is marked in the file:
//     <!-- example: examples/quickstart.cpp body -->      // region: body ... // endregion: body
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <regex>
#include <set>
#include <string>
#include <vector>

namespace fs = std::filesystem;

namespace {

using lines = std::vector<std::string>;

fs::path root;
std::vector<std::string> complaints;

void complain(const fs::path& file, std::size_t line, const std::string& rule, const std::string& what) {
  complaints.push_back(fs::relative(file, root).generic_string() + ":" + std::to_string(line) + ": " + rule + ": " +
                       what);
}

lines read_lines(const fs::path& file) {
  std::ifstream in(file);
  lines out;
  for (std::string line; std::getline(in, line);) out.push_back(line);
  return out;
}

std::vector<fs::path> files_under(const fs::path& folder, const std::set<std::string>& extensions) {
  std::vector<fs::path> out;
  if (fs::is_directory(folder))
    for (const auto& entry : fs::recursive_directory_iterator(folder))
      if (entry.is_regular_file() && extensions.count(entry.path().extension().string()) != 0)
        out.push_back(entry.path());
  std::sort(out.begin(), out.end());
  return out;
}

// The code of a file: comments and the insides of literals become blanks, line breaks stay.
lines code_of(const lines& text) {
  std::string all;
  for (const auto& line : text) all += line + "\n";
  std::string out;
  for (std::size_t i = 0; i < all.size();) {
    const auto keep_breaks = [&](std::size_t end) {
      end = std::min(end, all.size());
      for (; i < end; ++i) out += all[i] == '\n' ? '\n' : ' ';
    };
    if (all.compare(i, 2, "//") == 0) {
      keep_breaks(all.find('\n', i));
    } else if (all.compare(i, 2, "/*") == 0) {
      const std::size_t end = all.find("*/", i + 2);
      keep_breaks(end == std::string::npos ? all.size() : end + 2);
    } else if (all.compare(i, 2, "R\"") == 0) {
      const std::size_t open = all.find('(', i);
      const std::string close = ")" + all.substr(i + 2, open - i - 2) + "\"";
      const std::size_t end = all.find(close, open);
      keep_breaks(end == std::string::npos ? all.size() : end + close.size());
    } else if (all[i] == '"' || (all[i] == '\'' && (i == 0 || !std::isalnum(static_cast<unsigned char>(all[i - 1]))))) {
      // A quote after a digit or letter separates digits: 1'000.
      std::size_t end = i + 1;
      while (end < all.size() && all[end] != all[i] && all[end] != '\n')
        end += all[end] == '\\' ? std::size_t{2} : std::size_t{1};
      // Quoted includes are wanted whole.
      const std::size_t start = all.rfind('\n', i) + 1;
      if (all.compare(start, 8, "#include") == 0) {
        out += all.substr(i, end + 1 - i);
        i = end + 1;
      } else {
        keep_breaks(end + 1);
      }
    } else {
      out += all[i++];
    }
  }
  lines result;
  std::size_t at = 0;
  for (std::size_t end; (end = out.find('\n', at)) != std::string::npos; at = end + 1)
    result.push_back(out.substr(at, end - at));
  return result;
}

// Folders and single files of include/blockattn that a folder, or a single file, may include.
const std::map<std::string, std::set<std::string>> may_include = {
    {"core", {"core", "version.hpp"}},
    {"tensor", {"core", "tensor"}},
    {"simd", {"core", "tensor", "simd"}},
    {"kernel", {"core", "tensor", "simd", "kernel"}},
    {"cache", {"core", "tensor", "cache", "version.hpp", "kernel/rope_config.hpp", "kernel/kernel_set.hpp"}},
    {"model", {"core", "tensor", "simd", "kernel", "cache", "model", "version.hpp"}},
    {"io", {"core", "io", "model/weights.hpp", "model/config.hpp"}},
    {"text", {"core", "io", "text"}},
    {"train", {"core", "simd", "train", "model/weights.hpp", "model/config.hpp", "kernel/quantize.hpp", "kernel/rope_config.hpp",
               "kernel/tile.hpp", "kernel/tile_amx.hpp"}},
    {"reference", {"core", "reference", "model/config.hpp", "model/weights.hpp", "kernel/rope_config.hpp"}},
    {"analysis", {"core", "analysis", "model/config.hpp", "kernel/rope_config.hpp"}},
    {"version.hpp", {}},
    {"fwd.hpp", {}},
    {"blockattn.hpp", {"core", "tensor", "simd", "kernel", "cache", "model", "fwd.hpp", "version.hpp"}},
};

// Where an include that is not of the standard library may stand: folders or single files.
const std::vector<std::pair<std::regex, std::set<std::string>>> walls = {
    {std::regex("xsimd/.*"), {"simd"}},
    {std::regex("(immintrin|arm_neon|arm_sve)\\.h"), {"simd"}},
    {std::regex("(unsupported/)?Eigen/.*"), {"train", "reference", "tensor/eigen.hpp"}},
    {std::regex("omp\\.h"), {"core/omp_executor.hpp"}},
    {std::regex("sys/mman\\.h"),
     {"core/mapped_file.hpp", "core/pages.hpp", "cache/block_file.hpp", "cache/directory_storage.hpp",
      "cache/file_system.hpp"}},
    {std::regex("nlohmann/.*"), {"io", "text", "cache/block_header.hpp"}},
    {std::regex("(pcre2|utf8proc)\\.h"), {"text"}},
    {std::regex("xxhash\\.h"), {"cache/checksum.hpp"}},
    {std::regex("hiredis/.*"), {"cache/redis_connection.hpp"}},
    {std::regex("(fcntl|unistd|sys/file|sys/mman|sys/stat|sys/types)\\.h"),
     {"core/mapped_file.hpp", "cache/file_system.hpp", "core/whole_file.hpp"}},
    {std::regex("(signal|sys/time|time)\\.h"), {"cache/redis_connection.hpp"}},
};

struct forbidden_word {
  std::regex pattern;
  std::string name;
  std::set<std::string> allowed_in;
};
const std::vector<forbidden_word> forbidden = {
    {std::regex("\\b(std::)?(abort|exit|_Exit|quick_exit)\\s*\\("), "ends the program", {}},
    {std::regex("\\bterminate\\s*\\("), "ends the program", {"core/result.hpp"}},
    {std::regex("\\b[fv]?printf\\s*\\(|\\bf?puts\\s*\\(|\\bputchar\\s*\\(|\\bperror\\s*\\("), "prints", {}},
    {std::regex("\\bstd::(cout|cerr|clog)\\b|#include <iostream>"), "prints", {}},
    {std::regex("\\bthrow\\b"), "throws", {"core/result.hpp"}},
    {std::regex("\\bassert\\s*\\("), "uses assert and not BLOCKATTN_EXPECTS", {"core/config.hpp"}},
    {std::regex("\\bthread_local\\b"), "keeps global state", {}},
    {std::regex("^using namespace\\b"), "imports a namespace into every program", {}},
};

// Whether a path (relative to include/blockattn) is in a set of folders and files.
bool listed(const std::set<std::string>& set, const std::string& path) {
  return set.count(path) != 0 || set.count(path.substr(0, path.find('/'))) != 0;
}

void check_header(const fs::path& file, const fs::path& library) {
  const std::string name = fs::relative(file, library).generic_string();
  const lines text = read_lines(file);
  const lines code = code_of(text);

  if (text.empty() || text[0] != "// SPDX-License-Identifier: MIT")
    complain(file, 1, "heads", "the first line is not the SPDX line");
  if (text.size() < 2 || text[1].rfind("/// ", 0) != 0)
    complain(file, 2, "heads", "the second line does not say the purpose (///)");
  if (std::find(text.begin(), text.end(), "#pragma once") == text.end()) complain(file, 1, "heads", "no #pragma once");
  if (text.size() > 450) {
    const auto head = text.begin() + 30;
    if (std::none_of(text.begin(), head,
                     [](const std::string& line) { return line.find("reason:") != std::string::npos; }))
      complain(file, text.size(), "heads", "longer than 450 lines, and no `reason:` in its first 30");
  }

  auto rule = may_include.find(name);
  if (rule == may_include.end()) rule = may_include.find(name.substr(0, name.find('/')));
  if (rule == may_include.end()) {
    complain(file, 1, "includes", "a folder that no rule knows");
    return;
  }
  static const std::regex include("^\\s*#\\s*include\\s*([<\"])([^>\"]+)[>\"]");
  for (std::size_t i = 0; i < code.size(); ++i) {
    for (const auto& word : forbidden)
      if (std::regex_search(code[i], word.pattern) && !listed(word.allowed_in, name))
        complain(file, i + 1, "forbidden", word.name);
    std::smatch match;
    if (!std::regex_search(code[i], match, include)) continue;
    const std::string target = match[2];
    if (match[1] == "\"") {
      const fs::path resolved = (file.parent_path() / target).lexically_normal();
      const std::string path = resolved.lexically_relative(library).generic_string();
      if (!fs::exists(resolved)) {
        complain(file, i + 1, "includes", target + " does not exist (includes are relative)");
      } else if (!listed(rule->second, path)) {
        complain(file, i + 1, "includes", name + " may not include " + path);
      }
      continue;
    }
    if (target.find_first_of("./") == std::string::npos) continue;  // the standard library
    const auto wall =
        std::find_if(walls.begin(), walls.end(), [&](const auto& w) { return std::regex_match(target, w.first); });
    if (wall == walls.end()) {
      complain(file, i + 1, "walls", "<" + target + "> is not a dependency of this library");
    } else if (!listed(wall->second, name)) {
      complain(file, i + 1, "walls", "<" + target + "> may not be included here");
    }
  }
}

// The lines of a region, without the blanks that all of them start with.
lines unindented(lines text) {
  std::size_t indent = std::string::npos;
  for (const auto& line : text) indent = std::min(indent, line.find_first_not_of(' '));
  if (indent != std::string::npos)
    for (auto& line : text) line.erase(0, std::min(indent, line.size()));
  return text;
}

bool find_region(const lines& text, const std::string& region, lines& out) {
  const auto marks = [](const std::string& line, const std::string& mark) {
    const std::size_t at = line.find_first_not_of(' ');
    return at != std::string::npos && line.substr(at) == mark;
  };
  const auto begin =
      std::find_if(text.begin(), text.end(), [&](const auto& line) { return marks(line, "// region: " + region); });
  if (begin == text.end()) return false;
  const auto end =
      std::find_if(begin, text.end(), [&](const auto& line) { return marks(line, "// endregion: " + region); });
  if (end == text.end()) return false;
  out = unindented(lines(begin + 1, end));
  return true;
}

void check_markdown(const fs::path& file) {
  static const std::regex marker("^<!-- example: (\\S+) (\\S+) -->$");
  const lines text = read_lines(file);
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i].rfind("```", 0) != 0) continue;
    const std::string language = text[i].substr(3);
    std::size_t end = i + 1;
    while (end < text.size() && text[end] != "```") ++end;
    std::smatch match;
    if (i > 0 && std::regex_match(text[i - 1], match, marker)) {
      lines region;
      const fs::path source = root / match[1].str();
      if (!fs::exists(source)) {
        complain(file, i, "examples", "there is no " + match[1].str());
      } else if (!find_region(read_lines(source), match[2], region)) {
        complain(file, i, "examples", match[1].str() + " has no region " + match[2].str());
      } else if (region != lines(text.begin() + static_cast<std::ptrdiff_t>(i) + 1,
                                 text.begin() + static_cast<std::ptrdiff_t>(end))) {
        complain(file, i + 1, "examples", "the block differs from region " + match[2].str() + " of " + match[1].str());
      }
    } else if (language == "cpp" || language == "c++") {
      complain(file, i + 1, "examples",
               "a C++ block that no example compiles (name it: <!-- example: FILE REGION -->)");
    }
    i = end;
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2 && !(argc == 4 && std::string(argv[2]) == "--expect")) {
    std::cerr << "usage: house ROOT [--expect FILE]\n";
    return 2;
  }
  root = fs::canonical(argv[1]);
  const fs::path library = root / "include" / "blockattn";
  const auto headers = files_under(library, {".hpp", ".h"});
  if (headers.empty()) {
    std::cerr << "no header under " << library << "\n";
    return 2;
  }
  for (const auto& file : headers) check_header(file, library);
  auto pages = files_under(root / "docs", {".md"});
  if (fs::exists(root / "README.md")) pages.push_back(root / "README.md");
  for (const auto& file : pages) check_markdown(file);

  if (argc == 4) {
    const lines expected = read_lines(argv[3]);
    const bool same = complaints == expected;
    for (const auto& line : expected)
      if (std::count(complaints.begin(), complaints.end(), line) == 0) std::cerr << "not found: " << line << "\n";
    for (const auto& line : complaints)
      if (std::count(expected.begin(), expected.end(), line) == 0) std::cerr << "unexpected: " << line << "\n";
    return same ? 0 : 1;
  }
  for (const auto& line : complaints) std::cerr << line << "\n";
  std::cout << headers.size() << " headers, " << pages.size() << " pages, " << complaints.size() << " complaints\n";
  return complaints.empty() ? 0 : 1;
}
