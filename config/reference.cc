#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>
#include <spdlog/fmt/fmt.h>

#include <fstream>

#include "base/check.h"
#include "config/config.h"
#include "config/holdfast.pb.h"
#include "config/properties.h"
#include "config/value.h"

namespace holdfast::config {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;

constexpr std::string_view kIntroduction = R"(# Configuration

<!-- Printed from config/holdfast.proto; the test config_test compares, and can print it anew. -->

Holdfast reads one YAML file (`--config FILE`). Each setting can also come from an environment
variable or from the command line; of several, the last in this order wins:

1. the default;
2. the file;
3. the environment: `HOLDFAST__AGENT__SPOOL__DIRECTORY=/var/spool/holdfast` is
   `agent.spool.directory`;
4. `--set agent.spool.directory=/var/spool/holdfast`;
5. the option of its own, where there is one: `--spool /var/spool/holdfast`.

```yaml
agent:
  listen: [127.0.0.1:9092]
  upstream:
    bootstrap: [kafka-1:9092, kafka-2:9092]
  spool:
    directory: /var/spool/holdfast
    bytes_max: 20GiB
  topics:
    - {name: orders, partitions: 12}
```

`holdfast validate FILE` checks a file as the start does. An unknown key, a wrong type or a value
out of range is an error with file, line and column, what does not fit together one with the key,
and nothing starts (exit code 2). If a file that the configuration names, such as a certificate,
cannot be read, or is not whole, the exit code is 1: it may be good at the next try.

- **Sizes** (`…bytes…`) are numbers of bytes or text: `4096`, `64KiB`, `10MB`.
  KiB, MiB, GiB and TiB are powers of 1024; kB (or KB), MB, GB and TB of 1000.
- **Durations** (`…_ms`) are numbers of milliseconds or text: `500ms`, `30s`, `5m`, `2h`, `7d`.
- **Text** can come from elsewhere: `{env: NAME}` is an environment variable, `{file: PATH}` the
  content of a file (without the newline at its end; a relative path begins at the configuration
  file). Use them for secrets.
- **Lists of text** may be written as one text with commas; blanks beside them do not count. In
  `--set` and in environment variables, lists and maps are YAML:
  `--set 'agent.topics=[{name: orders, partitions: 12}]'`.
)";

std::string CommentOf(const FieldDescriptor& field) {
  google::protobuf::SourceLocation location;
  std::string text;
  if (field.GetSourceLocation(&location)) text = location.leading_comments;
  std::string line;
  for (const char c : text) {
    if (c == '\n') {
      while (line.ends_with(' ')) line.pop_back();
    } else if (c != ' ' || (!line.empty() && line.back() != ' ')) {
      line += c;
      continue;
    }
    if (!line.empty() && line.back() != ' ') line += ' ';
  }
  while (line.ends_with(' ')) line.pop_back();
  return line;
}

// The rules, as the compiled schema has them: those of the imported one are not resolved.
const FieldDescriptor& Compiled(const FieldDescriptor& field) {
  return *google::protobuf::DescriptorPool::generated_pool()->FindFieldByName(field.full_name());
}

std::string TypeOf(const FieldDescriptor& field) {
  const Check& rule = Compiled(field).options().GetExtension(check);
  std::string type;
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_BOOL:
      type = "`true` or `false`";
      break;
    case FieldDescriptor::CPPTYPE_ENUM:
      for (int i = 0; i < field.enum_type()->value_count(); ++i)
        type += fmt::format("{}`{}`", i == 0 ? "" : ", ", field.enum_type()->value(i)->name());
      break;
    case FieldDescriptor::CPPTYPE_STRING:
      type = rule.format() == Check::address ? "HOST:PORT" : "text";
      break;
    default:
      type = UnitOf(field.name()) == Unit::kBytes          ? "size"
             : UnitOf(field.name()) == Unit::kMilliseconds ? "duration"
                                                           : "number";
  }
  return field.is_repeated() ? "list of " + type : type;
}

std::string DefaultOf(const FieldDescriptor& field) {
  if (Compiled(field).options().GetExtension(check).required()) return "**required**";
  if (!field.has_default_value()) return "–";
  const Unit unit = UnitOf(field.name());
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_BOOL:
      return field.default_value_bool() ? "`true`" : "`false`";
    case FieldDescriptor::CPPTYPE_ENUM:
      return "`" + field.default_value_enum()->name() + "`";
    case FieldDescriptor::CPPTYPE_STRING:
      return "`" + field.default_value_string() + "`";
    case FieldDescriptor::CPPTYPE_INT32:
      return "`" + PrintNumber(field.default_value_int32(), unit) + "`";
    case FieldDescriptor::CPPTYPE_UINT32:
      return "`" + PrintNumber(field.default_value_uint32(), unit) + "`";
    default:
      return "`" + PrintNumber(static_cast<int64_t>(field.default_value_uint64()), unit) + "`";
  }
}

std::string RangeOf(const FieldDescriptor& field) {
  const Check& rule = Compiled(field).options().GetExtension(check);
  const Unit unit = UnitOf(field.name());
  if (rule.has_min() && rule.has_max())
    return fmt::format("{} – {}", PrintNumber(rule.min(), unit), PrintNumber(rule.max(), unit));
  if (rule.has_min()) return "≥ " + PrintNumber(rule.min(), unit);
  if (rule.has_max()) return "≤ " + PrintNumber(rule.max(), unit);
  return "";
}

void PrintProperties(const std::string& path, const FieldDescriptor& field, std::string& out) {
  out += fmt::format("\n## `{}`\n\n{}\n\n", path, CommentOf(field));
  out += "| property | values | default | meaning |\n| --- | --- | --- | --- |\n";
  for (const Property& property : PropertiesOf(field.containing_type()->name())) {
    std::string values;
    for (const char c : property.values) values += c == ',' ? "`, `" : std::string(1, c);
    out += fmt::format(
        "| `{}` | {} | {} | {} |\n", property.name, values.empty() ? "text" : "`" + values + "`",
        property.preset.empty() ? "–" : fmt::format("`{}`", property.preset), property.meaning);
  }
}

void PrintMap(const Descriptor& type, const std::string& path, const FieldDescriptor& map,
              std::string& out) {
  const std::string& outer_flag = Compiled(map).options().GetExtension(check).flag();
  out += fmt::format("\n## `{}`\n\n{}\n\n", path, CommentOf(map));
  out += "| key | type | default | range | meaning |\n| --- | --- | --- | --- | --- |\n";
  std::string below;
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor& field = *type.field(i);
    if (field.is_map()) {
      PrintProperties(path + "." + field.name(), field, below);
      continue;
    }
    if (field.message_type() != nullptr) {
      const std::string key =
          fmt::format("{}.{}{}", path, field.name(), field.is_repeated() ? "[]" : "");
      PrintMap(*field.message_type(), key, field, below);
      continue;
    }
    const Check& rule = Compiled(field).options().GetExtension(check);
    const std::string& flag = rule.required() && !rule.has_flag() ? outer_flag : rule.flag();
    const std::string option = flag.empty() ? "" : fmt::format(" Option: `{}`.", flag);
    out += fmt::format("| `{}` | {} | {} | {} | {}{} |\n", field.name(), TypeOf(field),
                       DefaultOf(field), RangeOf(field), CommentOf(field), option);
  }
  out += below;
}

}  // namespace

base::Result<std::string> PrintReference(const std::string& descriptor_set_file) {
  std::ifstream in(descriptor_set_file, std::ios::binary);
  google::protobuf::FileDescriptorSet files;
  if (!in || !files.ParseFromIstream(&in))
    return base::Unexpected(base::Code::kInvalid, descriptor_set_file + ": not a descriptor set");
  google::protobuf::DescriptorPool pool;
  for (const auto& file : files.file()) {
    if (pool.BuildFile(file) == nullptr)
      return base::Unexpected(base::Code::kInvalid, file.name() + ": protobuf refuses it");
  }
  const auto* const schema = pool.FindFileByName("config/holdfast.proto");
  HF_CHECK(schema != nullptr);
  std::string out(kIntroduction);
  const Descriptor& root = *schema->FindMessageTypeByName("Config");
  for (int i = 0; i < root.field_count(); ++i)
    PrintMap(*root.field(i)->message_type(), root.field(i)->name(), *root.field(i), out);
  return out;
}

}  // namespace holdfast::config
