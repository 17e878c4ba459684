#include "kafka/message.h"

namespace holdfast::kafka {

std::string Uuid::ToString() const {
  static constexpr std::string_view kAlphabet =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  std::string text;
  uint32_t bits = 0;
  int held = 0;
  for (const uint8_t byte : bytes) {
    bits = (bits << 8) | byte;
    for (held += 8; held >= 6; held -= 6) text += kAlphabet[(bits >> (held - 6)) & 63];
  }
  text += kAlphabet[(bits << (6 - held)) & 63];
  return text;
}

}  // namespace holdfast::kafka
