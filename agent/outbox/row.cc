#include "agent/outbox/row.h"

namespace holdfast::outbox {

uint64_t DigestOf(std::string_view id) {
  uint64_t digest = 14695981039346656037U;
  for (const char byte : id) {
    digest ^= static_cast<uint8_t>(byte);
    digest *= 1099511628211U;
  }
  return digest;
}

}  // namespace holdfast::outbox
