#include "spool/run.h"

#include <cstring>
#include <string>

#include "base/check.h"
#include "base/crc32c.h"
#include "base/endian.h"

namespace holdfast::spool {
namespace {

constexpr size_t kMagic = 0;
constexpr size_t kChecksum = 4;
constexpr size_t kPosition = 8;
constexpr size_t kLength = 12;
static_assert(kLength + sizeof(uint32_t) == kRunHeaderBytes);

uint32_t Checksum(uint32_t seed, std::string_view bytes) {
  return base::Crc32c(bytes.substr(kPosition, kRunHeaderBytes - kPosition), seed);
}

tl::unexpected<base::Error> Corrupt(const char* what) {
  return base::Unexpected(base::Code::kCorrupt, std::string("damaged run: ") + what);
}

}  // namespace

base::Result<std::string_view> Run::At(uint32_t at, size_t size) const {
  if (at < position || uint64_t{at} - position + size > bytes.size())
    return Corrupt("an entry lies outside");
  return bytes.substr(at - position, size);
}

void EncodeRun(uint32_t seed, const Run& run, std::span<char> out) {
  HF_CHECK(out.size() == kRunHeaderBytes + run.bytes.size() && run.bytes.size() <= UINT32_MAX);
  base::StoreLittle(out.data() + kMagic, kRunMagic);
  base::StoreLittle(out.data() + kPosition, run.position);
  base::StoreLittle(out.data() + kLength, static_cast<uint32_t>(run.bytes.size()));
  base::StoreLittle(out.data() + kChecksum, Checksum(seed, {out.data(), out.size()}));
  std::memcpy(out.data() + kRunHeaderBytes, run.bytes.data(), run.bytes.size());
}

base::Result<Run> DecodeRun(uint32_t seed, std::string_view bytes) {
  if (bytes.size() < kRunHeaderBytes) return Corrupt("shorter than a header");
  if (base::LoadLittle<uint32_t>(&bytes[kMagic]) != kRunMagic) return Corrupt("no magic number");
  if (base::LoadLittle<uint32_t>(&bytes[kChecksum]) != Checksum(seed, bytes))
    return Corrupt("wrong checksum");
  const size_t length = base::LoadLittle<uint32_t>(&bytes[kLength]);
  if (length > bytes.size() - kRunHeaderBytes) return Corrupt("longer than its place");
  return Run{.position = base::LoadLittle<uint32_t>(&bytes[kPosition]),
             .bytes = bytes.substr(kRunHeaderBytes, length)};
}

}  // namespace holdfast::spool
