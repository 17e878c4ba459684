#include "config/loader.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <optional>
#include <set>
#include <sstream>

#include "base/check.h"
#include "base/result.h"
#include "config/properties.h"
#include "config/value.h"

namespace holdfast::config {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;

constexpr size_t kFileBytesMax = size_t{1} << 20;

std::string Join(const std::string& path, const std::string& key) {
  return path.empty() ? key : path + "." + key;
}

// One that a person may have meant; empty if nothing is near.
std::string NearestKey(const Descriptor& type, const std::string& key) {
  std::string nearest;
  size_t best = std::max<size_t>(1, key.size() / 3) + 1;
  for (int i = 0; i < type.field_count(); ++i) {
    const size_t distance = EditDistance(key, type.field(i)->name());
    if (distance < best) {
      best = distance;
      nearest = type.field(i)->name();
    }
  }
  return nearest;
}

// The full path of a key of exactly this name anywhere below `type`; empty if there is none.
std::string FindKey(const Descriptor& type, const std::string& key, const std::string& path) {
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor& field = *type.field(i);
    if (field.name() == key) return Join(path, key);
    if (field.message_type() == nullptr || field.is_repeated()) continue;
    std::string found = FindKey(*field.message_type(), key, Join(path, field.name()));
    if (!found.empty()) return found;
  }
  return {};
}

std::vector<std::string> KeysOf(const Descriptor& type) {
  std::vector<std::string> keys;
  for (int i = 0; i < type.field_count(); ++i) keys.push_back(type.field(i)->name());
  return keys;
}

base::Result<std::string> ReadWhole(const std::string& file) {
  std::ifstream in(file, std::ios::binary);
  std::string text(kFileBytesMax + 1, '\0');
  if (in) in.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (!in.eof()) {
    if (in) return base::Unexpected(base::Code::kInvalid, file + ": larger than 1MiB");
    return base::Unexpected(base::ErrnoError("cannot read " + file, errno));
  }
  text.resize(static_cast<size_t>(in.gcount()));
  return text;
}

// What is wrong with the text, or empty.
std::string WrongAddress(const std::string& text) {
  const size_t colon = text.rfind(':');
  const std::string host = text.substr(0, colon);
  const int64_t port =
      colon == std::string::npos
          ? -1
          : ParseNumber(std::string_view(text).substr(colon + 1), Unit::kNone).value_or(-1);
  const bool ip6 = host.starts_with('[') && host.ends_with(']');
  if (port >= 0 && port <= 65535 && !host.empty() && (ip6 || host.find(':') == std::string::npos))
    return {};
  return "must be HOST:PORT, such as 127.0.0.1:9092 or [::1]:9092";
}

std::string WrongTopic(const std::string& text) {
  const bool legal = !text.empty() && text.size() <= 249 && text != "." && text != ".." &&
                     std::all_of(text.begin(), text.end(), [](unsigned char c) {
                       return std::isalnum(c) || c == '.' || c == '_' || c == '-';
                     });
  return legal ? "" : "must be 1 to 249 letters, digits, dots, underscores and hyphens";
}

std::string WrongPattern(const std::string& text) {
  const size_t star = text.find('*');
  const bool legal = !text.empty() && (star == std::string::npos || star + 1 == text.size());
  return legal ? "" : "must be a name, or the beginning of names and * at its end";
}

std::string WrongFormat(const FieldDescriptor& field, const std::string& text) {
  switch (field.options().GetExtension(check).format()) {
    case Check::address:
      return WrongAddress(text);
    case Check::topic:
      return WrongTopic(text);
    case Check::pattern:
      return WrongPattern(text);
    case Check::any:
      break;
  }
  return {};
}

// The range that the type and the options allow.
std::pair<int64_t, int64_t> RangeOf(const FieldDescriptor& field) {
  int64_t min = 0;
  int64_t max = 0;
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      min = std::numeric_limits<int32_t>::min();
      max = std::numeric_limits<int32_t>::max();
      break;
    case FieldDescriptor::CPPTYPE_UINT32:
      max = std::numeric_limits<uint32_t>::max();
      break;
    default:
      max = std::numeric_limits<int64_t>::max();
  }
  const Check& limits = field.options().GetExtension(check);
  return {limits.has_min() ? limits.min() : min, limits.has_max() ? limits.max() : max};
}

std::string_view Example(Unit unit) {
  switch (unit) {
    case Unit::kBytes:
      return "a size such as 256MiB";
    case Unit::kMilliseconds:
      return "a duration such as 30s";
    case Unit::kNone:
      break;
  }
  return "a whole number";
}

// At its ends.
std::string WithoutBlanks(const std::string& text) {
  constexpr std::string_view kBlanks = " \t\r\n";
  const size_t begin = text.find_first_not_of(kBlanks);
  if (begin == std::string::npos) return {};
  return text.substr(begin, text.find_last_not_of(kBlanks) + 1 - begin);
}

template <class Set, class Add>
void SetOrAdd(const FieldDescriptor& field, Set set, Add add) {
  if (field.is_repeated()) {
    add();
  } else {
    set();
  }
}

}  // namespace

void Loader::ReadFile(const std::string& file) {
  origin_ = file;
  directory_ = file.substr(0, file.rfind('/') + 1);
  has_lines_ = true;
  const auto text = ReadWhole(file);
  if (!text) {
    mistakes_.push_back(text.error().message);
    event_ = base::Event::kConfigurationUnreadable;
    return;
  }
  try {
    const YAML::Node root = YAML::Load(*text);
    if (!root.IsNull()) ReadMap(root, config_, "");
  } catch (const YAML::Exception& e) {
    Mistake(e.mark, "not YAML: " + e.msg);
  }
}

void Loader::ReadSetting(const std::string& key, const std::string& value,
                         const std::string& origin) {
  origin_ = origin;
  directory_.clear();
  has_lines_ = false;
  google::protobuf::Message* message = &config_;
  std::string path;
  std::istringstream parts(key);
  for (std::string part; std::getline(parts, part, '.');) {
    const FieldDescriptor* field = message->GetDescriptor()->FindFieldByName(part);
    if (field == nullptr) return UnknownKey({}, *message->GetDescriptor(), path, part);
    path = Join(path, part);
    if (field->is_map() && path != key) return ReadPropertySetting(key, path, value, *message);
    if (path == key) {
      const auto node = SettingNode(value, path);
      if (node) ReadField(*node, *message, *field, path);
      return;
    }
    if (field->message_type() == nullptr)
      return Mistake({}, path + " is a value and has no keys below it");
    if (field->is_repeated()) return Mistake({}, path + " is a list: set it as a whole");
    message = message->GetReflection()->MutableMessage(message, field);
  }
  Mistake({}, "\"" + key + "\" is not a key");
}

// Text stays as it is: a password may hold anything. Lists, maps, {env: NAME} are YAML.
std::optional<YAML::Node> Loader::SettingNode(const std::string& value, const std::string& path) {
  if (!value.starts_with('[') && !value.starts_with('{')) return YAML::Node(value);
  try {
    return YAML::Load(value);
  } catch (const YAML::Exception& e) {
    Mistake({}, path + " is not YAML: " + e.msg);
    return std::nullopt;
  }
}

// The rest of the key is the name of a property, whatever dots are in it.
void Loader::ReadPropertySetting(const std::string& key, const std::string& path,
                                 const std::string& value, Message& message) {
  if (const auto node = SettingNode(value, key))
    ReadProperty(*node, {}, key.substr(path.size() + 1), message, path);
}

void Loader::ReadMap(const YAML::Node& node, Message& message, const std::string& path) {
  if (!node.IsMap())
    return Mistake(node.Mark(), fmt::format("{} must be a map with the keys {}",
                                            path.empty() ? "the configuration" : path,
                                            fmt::join(KeysOf(*message.GetDescriptor()), ", ")));
  std::set<std::string> seen;
  for (const auto& entry : node) {
    if (!entry.first.IsScalar()) {
      Mistake(entry.first.Mark(), "a key must be a word");
      continue;
    }
    const std::string& key = entry.first.Scalar();
    const FieldDescriptor* field = message.GetDescriptor()->FindFieldByName(key);
    if (field == nullptr) {
      UnknownKey(entry.first.Mark(), *message.GetDescriptor(), path, key);
    } else if (!seen.insert(key).second) {
      Mistake(entry.first.Mark(), Join(path, key) + " is given twice");
    } else {
      ReadField(entry.second, message, *field, Join(path, key));
    }
  }
}

void Loader::ReadField(const YAML::Node& node, Message& message, const Field& field,
                       const std::string& path) {
  if (field.is_map()) return ReadProperties(node, message, path);
  if (field.is_repeated()) {
    message.GetReflection()->ClearField(&message, &field);
    return ReadList(node, message, field, path);
  }
  if (field.message_type() == nullptr) return ReadScalar(node, message, field, path);
  Message* below = message.GetReflection()->MutableMessage(&message, &field);
  if (!node.IsNull()) ReadMap(node, *below, path);  // "agent:" with nothing below it.
}

void Loader::ReadProperties(const YAML::Node& node, Message& message, const std::string& path) {
  if (node.IsNull()) return;
  if (!node.IsMap()) return Mistake(node.Mark(), path + " must be a map of properties");
  std::set<std::string> seen;
  for (const auto& entry : node) {
    if (!entry.first.IsScalar()) {
      Mistake(entry.first.Mark(), "a key must be a word");
    } else if (!seen.insert(entry.first.Scalar()).second) {
      Mistake(entry.first.Mark(), Join(path, entry.first.Scalar()) + " is given twice");
    } else {
      ReadProperty(entry.second, entry.first.Mark(), entry.first.Scalar(), message, path);
    }
  }
}

void Loader::ReadProperty(const YAML::Node& node, const YAML::Mark& mark, const std::string& name,
                          Message& message, const std::string& path) {
  const PropertyTable table = PropertiesOf(message.GetDescriptor()->name());
  const Property* const property = FindProperty(table, name);
  const std::string key = Join(path, name);
  if (property == nullptr) {
    const std::string_view nearest = NearestProperty(table, name);
    return Mistake(mark, nearest.empty()
                             ? fmt::format("unknown property \"{}\"; docs/configuration.md lists "
                                           "those that are known",
                                           key)
                             : fmt::format("unknown property \"{}\"; did you mean \"{}\"?", key,
                                           Join(path, std::string(nearest))));
  }
  std::optional<Text> value;
  if (node.IsScalar()) {
    value = Text{node.Scalar()};
  } else if (!node.IsMap()) {
    return Mistake(mark, key + (node.IsNull() ? " has no value" : " must be a single value"));
  } else {
    value = ReadFromElsewhere(node, key);
  }
  if (!value) return;
  if (!value->kept && !IsValueOf(*property, value->text)) {
    return Mistake(mark, fmt::format("{} is \"{}\", and must be one of {}", key, value->text,
                                     property->values));
  }
  // The three maps there are.
  if (auto* upstream = google::protobuf::DynamicCastToGenerated<Upstream>(&message)) {
    (*upstream->mutable_properties())[name] = std::move(value->text);
  } else if (auto* source = google::protobuf::DynamicCastToGenerated<OutboxSource>(&message)) {
    (*source->mutable_properties())[name] = std::move(value->text);
  } else {
    auto& sidecar = *google::protobuf::DynamicCastToGenerated<Sidecar>(&message);
    (*sidecar.mutable_resources())[name] = std::move(value->text);
  }
}

void Loader::ReadList(const YAML::Node& node, Message& message, const Field& field,
                      const std::string& path) {
  if (node.IsSequence()) {
    int index = 0;
    for (const auto& item : node) {
      const std::string item_path = fmt::format("{}[{}]", path, index++);
      if (field.message_type() == nullptr) {
        ReadScalar(item, message, field, item_path);
      } else {
        ReadMap(item, *message.GetReflection()->AddMessage(&message, &field), item_path);
      }
    }
    return;
  }
  if (field.message_type() != nullptr) return Mistake(node.Mark(), path + " must be a list");
  const auto text = ReadText(node, field, path);
  if (!text) return;
  if (text->kept) return SetText(node, *text, message, field, path);
  std::istringstream items(text->text);
  for (std::string item; std::getline(items, item, ',');)
    SetText(node, {WithoutBlanks(item)}, message, field, path);
}

void Loader::ReadScalar(const YAML::Node& node, Message& message, const Field& field,
                        const std::string& path) {
  if (const auto text = ReadText(node, field, path)) SetText(node, *text, message, field, path);
}

std::optional<Loader::Text> Loader::ReadText(const YAML::Node& node, const Field& field,
                                             const std::string& path) {
  if (node.IsScalar()) return Text{node.Scalar()};
  if (field.cpp_type() == Field::CPPTYPE_STRING && node.IsMap())
    return ReadFromElsewhere(node, path);
  Mistake(node.Mark(), path + (node.IsNull() ? " has no value" : " must be a single value"));
  return std::nullopt;
}

std::optional<Loader::Text> Loader::ReadFromElsewhere(const YAML::Node& node,
                                                      const std::string& path) {
  const auto entry = node.begin();
  if (node.size() != 1 || !entry->first.IsScalar() || !entry->second.IsScalar() ||
      (entry->first.Scalar() != "env" && entry->first.Scalar() != "file")) {
    Mistake(node.Mark(), path + " must be text, {env: NAME} or {file: PATH}");
    return std::nullopt;
  }
  const std::string& name = entry->second.Scalar();
  if (references_ == References::kKeep)
    return Text{fmt::format("{{{}: {}}}", entry->first.Scalar(), name), /*kept=*/true};
  if (entry->first.Scalar() == "env") {
    const char* const value = std::getenv(name.c_str());
    if (value == nullptr) {
      Mistake(node.Mark(), fmt::format("{}: the environment variable {} is not set", path, name));
      return std::nullopt;
    }
    return Text{value};
  }
  auto content = ReadWhole(name.starts_with('/') ? name : directory_ + name);
  if (!content) {
    Mistake(node.Mark(), path + ": " + content.error().message);
    return std::nullopt;
  }
  while (content->ends_with('\n') || content->ends_with('\r')) content->pop_back();
  return Text{*std::move(content)};
}

void Loader::SetText(const YAML::Node& node, const Text& given, Message& message,
                     const Field& field, const std::string& path) {
  const google::protobuf::Reflection& reflection = *message.GetReflection();
  const std::string& text = given.text;
  switch (field.cpp_type()) {
    case Field::CPPTYPE_STRING: {
      // The value itself may be a secret: it is shown only where its form is checked.
      const std::string wrong = given.kept ? "" : WrongFormat(field, text);
      if (!wrong.empty())
        return Mistake(node.Mark(), fmt::format("{} is \"{}\", and {}", path, text, wrong));
      return SetOrAdd(
          field, [&] { reflection.SetString(&message, &field, text); },
          [&] { reflection.AddString(&message, &field, text); });
    }
    case Field::CPPTYPE_BOOL:
      if (text != "true" && text != "false")
        return Mistake(node.Mark(),
                       fmt::format("{} is \"{}\", and must be true or false", path, text));
      return reflection.SetBool(&message, &field, text == "true");
    case Field::CPPTYPE_ENUM: {
      const auto* const value = field.enum_type()->FindValueByName(text);
      if (value != nullptr) {
        return SetOrAdd(
            field, [&] { reflection.SetEnum(&message, &field, value); },
            [&] { reflection.AddEnum(&message, &field, value); });
      }
      std::vector<std::string> names;
      for (int i = 0; i < field.enum_type()->value_count(); ++i)
        names.push_back(field.enum_type()->value(i)->name());
      return Mistake(node.Mark(), fmt::format("{} is \"{}\", and must be one of {}", path, text,
                                              fmt::join(names, ", ")));
    }
    default:
      return SetNumber(node, text, message, field, path);
  }
}

void Loader::SetNumber(const YAML::Node& node, const std::string& text, Message& message,
                       const Field& field, const std::string& path) {
  const Unit unit = UnitOf(field.name());
  const auto number = ParseNumber(text, unit);
  if (!number)
    return Mistake(node.Mark(),
                   fmt::format("{} is \"{}\", and must be {}", path, text, Example(unit)));
  const auto [min, max] = RangeOf(field);
  if (*number < min || *number > max) {
    const std::string limits =
        max == std::numeric_limits<int64_t>::max()
            ? "at least " + PrintNumber(min, unit)
            : fmt::format("between {} and {}", PrintNumber(min, unit), PrintNumber(max, unit));
    return Mistake(node.Mark(), fmt::format("{} is {}, and must be {}", path, text, limits));
  }
  const google::protobuf::Reflection& reflection = *message.GetReflection();
  switch (field.cpp_type()) {
    case Field::CPPTYPE_INT32:
      return reflection.SetInt32(&message, &field, static_cast<int32_t>(*number));
    case Field::CPPTYPE_UINT32:
      return reflection.SetUInt32(&message, &field, static_cast<uint32_t>(*number));
    case Field::CPPTYPE_UINT64:
      return reflection.SetUInt64(&message, &field, static_cast<uint64_t>(*number));
    default:
      HF_CHECK(false);  // The schema has no other numbers.
  }
}

void Loader::UnknownKey(const YAML::Mark& mark, const Descriptor& type, const std::string& path,
                        const std::string& key) {
  std::string advice;
  if (const std::string nearest = NearestKey(type, key); !nearest.empty()) {
    advice = fmt::format("did you mean \"{}\"?", Join(path, nearest));
  } else if (const std::string there = FindKey(*Config::descriptor(), key, ""); !there.empty()) {
    advice = fmt::format("did you mean \"{}\"?", there);
  } else {
    advice = fmt::format("the keys here are {}", fmt::join(KeysOf(type), ", "));
  }
  Mistake(mark, fmt::format("unknown key \"{}\"; {}", Join(path, key), advice));
}

void Loader::Mistake(const YAML::Mark& mark, const std::string& what) {
  if (has_lines_ && !mark.is_null()) {
    mistakes_.push_back(fmt::format("{}:{}:{}: {}", origin_, mark.line + 1, mark.column + 1, what));
  } else {
    mistakes_.push_back(origin_ + ": " + what);
  }
}

}  // namespace holdfast::config
