#include "config/changes.h"

#include <google/protobuf/util/json_util.h>
#include <google/protobuf/util/message_differencer.h>

#include "base/check.h"
#include "config/holdfast.pb.h"

namespace holdfast::config {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::util::MessageDifferencer;

constexpr const char* kHidden = "(hidden)";

// Whether one field, of whatever form, has the same value in both.
bool Same(const Message& before, const Message& after, const FieldDescriptor& field) {
  MessageDifferencer differencer;
  std::vector<const FieldDescriptor*> fields{&field};
  differencer.set_message_field_comparison(MessageDifferencer::EQUIVALENT);
  return differencer.CompareWithFields(before, after, fields, fields);
}

void CompareBelow(const Message& before, const Message& after, const std::string& path, bool live,
                  Changes* changes) {
  const auto& type = *before.GetDescriptor();
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor& field = *type.field(i);
    if (Same(before, after, field)) continue;
    const std::string key = path.empty() ? field.name() : path + "." + field.name();
    const bool field_live = live || field.options().GetExtension(check).live();
    if (field.message_type() != nullptr && !field.is_repeated()) {
      CompareBelow(before.GetReflection()->GetMessage(before, &field),
                   after.GetReflection()->GetMessage(after, &field), key, field_live, changes);
    } else {
      (field_live ? changes->live : changes->restart).push_back(key);
    }
  }
}

bool NamesASecret(const std::string& name) {
  for (const char* word : {"password", "secret", "jaas", "token", ".key"}) {
    if (name.find(word) != std::string::npos) return true;
  }
  return false;
}

void HideText(Message& message, const FieldDescriptor& field) {
  const auto& reflection = *message.GetReflection();
  if (!field.is_repeated()) {
    if (reflection.HasField(message, &field)) reflection.SetString(&message, &field, kHidden);
    return;
  }
  for (int i = 0; i < reflection.FieldSize(message, &field); ++i)
    reflection.SetRepeatedString(&message, &field, i, kHidden);
}

void Hide(Message& message) {
  const auto& reflection = *message.GetReflection();
  const auto& type = *message.GetDescriptor();
  if (type.options().map_entry()) {
    const FieldDescriptor& value = *type.map_value();
    if (value.cpp_type() == FieldDescriptor::CPPTYPE_STRING &&
        NamesASecret(reflection.GetString(message, type.map_key())))
      HideText(message, value);
    return;
  }
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor& field = *type.field(i);
    if (field.options().GetExtension(check).secret()) {
      HideText(message, field);
    } else if (field.message_type() == nullptr) {
      continue;
    } else if (!field.is_repeated()) {
      if (reflection.HasField(message, &field)) Hide(*reflection.MutableMessage(&message, &field));
    } else {
      for (int at = 0; at < reflection.FieldSize(message, &field); ++at)
        Hide(*reflection.MutableRepeatedMessage(&message, &field, at));
    }
  }
}

// Sets what has a default and no value: JSON shows what is set.
void FillIn(Message& message) {
  const auto& reflection = *message.GetReflection();
  const auto& type = *message.GetDescriptor();
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor& field = *type.field(i);
    if (field.is_repeated()) {
      if (field.message_type() == nullptr || field.is_map()) continue;
      for (int at = 0; at < reflection.FieldSize(message, &field); ++at)
        FillIn(*reflection.MutableRepeatedMessage(&message, &field, at));
    } else if (field.message_type() != nullptr) {
      if (reflection.HasField(message, &field))
        FillIn(*reflection.MutableMessage(&message, &field));
    } else if (field.has_default_value() && !reflection.HasField(message, &field)) {
      switch (field.cpp_type()) {
        case FieldDescriptor::CPPTYPE_INT32:
          reflection.SetInt32(&message, &field, field.default_value_int32());
          break;
        case FieldDescriptor::CPPTYPE_UINT32:
          reflection.SetUInt32(&message, &field, field.default_value_uint32());
          break;
        case FieldDescriptor::CPPTYPE_UINT64:
          reflection.SetUInt64(&message, &field, field.default_value_uint64());
          break;
        case FieldDescriptor::CPPTYPE_BOOL:
          reflection.SetBool(&message, &field, field.default_value_bool());
          break;
        case FieldDescriptor::CPPTYPE_ENUM:
          reflection.SetEnum(&message, &field, field.default_value_enum());
          break;
        case FieldDescriptor::CPPTYPE_STRING:
          reflection.SetString(&message, &field, field.default_value_string());
          break;
        default:
          HF_CHECK(false);  // The schema has no others.
      }
    }
  }
}

}  // namespace

Changes Compare(const Config& before, const Config& after) {
  Changes changes;
  CompareBelow(before, after, "", /*live=*/false, &changes);
  return changes;
}

std::string PrintWithoutSecrets(const Config& config) {
  Config shown = config;
  // Messages that count although they are not set.
  shown.mutable_log();
  if (shown.has_agent()) shown.mutable_agent()->mutable_limits();
  if (shown.has_broker()) {
    shown.mutable_broker()->mutable_limits();
    shown.mutable_broker()->mutable_groups()->mutable_consumer();
  }
  FillIn(shown);
  Hide(shown);
  google::protobuf::util::JsonPrintOptions options;
  options.add_whitespace = true;
  options.preserve_proto_field_names = true;
  std::string text;
  HF_CHECK(google::protobuf::util::MessageToJsonString(shown, &text, options).ok());
  return text;
}

}  // namespace holdfast::config
