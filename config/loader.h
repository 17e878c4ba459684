// Fills a configuration message from YAML nodes by reflection, and collects every mistake with the
// place where it stands. Inside config/ only.
//
// Threads: none.
#pragma once

#include <yaml-cpp/yaml.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/event.h"
#include "config/config.h"
#include "config/holdfast.pb.h"

namespace holdfast::config {

class Loader {
 public:
  Loader(Config& config, References references) : config_(config), references_(references) {}

  void ReadFile(const std::string& file);
  // A value for one key, in YAML if it is a list or a map.
  void ReadSetting(const std::string& key, const std::string& value, const std::string& origin);

  [[nodiscard]] const std::vector<std::string>& mistakes() const { return mistakes_; }
  // What they are together.
  [[nodiscard]] base::Event event() const { return event_; }

 private:
  using Message = google::protobuf::Message;
  using Field = google::protobuf::FieldDescriptor;

  std::optional<YAML::Node> SettingNode(const std::string& value, const std::string& path);
  void ReadPropertySetting(const std::string& key, const std::string& path,
                           const std::string& value, Message& message);
  void ReadMap(const YAML::Node& node, Message& message, const std::string& path);
  void ReadField(const YAML::Node& node, Message& message, const Field& field,
                 const std::string& path);
  void ReadList(const YAML::Node& node, Message& message, const Field& field,
                const std::string& path);
  void ReadProperties(const YAML::Node& node, Message& message, const std::string& path);
  void ReadProperty(const YAML::Node& node, const YAML::Mark& mark, const std::string& name,
                    Message& message, const std::string& path);
  void ReadScalar(const YAML::Node& node, Message& message, const Field& field,
                  const std::string& path);
  struct Text {
    std::string text;
    bool kept = false;  // It is a reference, so that nothing is known of the value.
  };
  // The text of a scalar; with {env: NAME} and {file: PATH} what they stand for. None: a mistake
  // was noted.
  std::optional<Text> ReadText(const YAML::Node& node, const Field& field, const std::string& path);
  std::optional<Text> ReadFromElsewhere(const YAML::Node& node, const std::string& path);
  void SetText(const YAML::Node& node, const Text& given, Message& message, const Field& field,
               const std::string& path);
  void SetNumber(const YAML::Node& node, const std::string& text, Message& message,
                 const Field& field, const std::string& path);

  void UnknownKey(const YAML::Mark& mark, const google::protobuf::Descriptor& type,
                  const std::string& path, const std::string& key);
  void Mistake(const YAML::Mark& mark, const std::string& what);

  Config& config_;
  const References references_;
  std::string origin_;      // The file, or what gave the setting.
  std::string directory_;   // Of the file, with a slash at its end: {file: PATH} begins there.
  bool has_lines_ = false;  // The origin is a file.
  std::vector<std::string> mistakes_;
  base::Event event_ = base::Event::kBadConfiguration;
};

}  // namespace holdfast::config
