// Runs a fuzzer's entry without libFuzzer: over every seed as it is, and over some thousand
// mutations of each, the same ones every time. So each build checks what the fuzzers check, if not
// as far.
//
//   request_fuzz SEED_FOLDER [MUTATIONS_PER_SEED]
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "base/random.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

using holdfast::base::Random;
using Bytes = std::vector<uint8_t>;

struct Seed {
  std::string name;
  Bytes bytes;
};

std::vector<Seed> ReadSeeds(const char* folder) {
  std::vector<Seed> seeds;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    std::ifstream file(entry.path(), std::ios::binary);
    seeds.push_back({entry.path().filename(), Bytes(std::istreambuf_iterator<char>(file), {})});
  }
  std::ranges::sort(seeds, {}, &Seed::name);
  return seeds;
}

// Values on which length and count checks turn.
constexpr uint32_t kInteresting[] = {
    0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff};

void Mutate(Bytes& bytes, const Bytes& other, Random& random) {
  const auto place = [&] { return static_cast<ptrdiff_t>(random.Below(bytes.size() + 1)); };
  switch (random.Below(6)) {
    case 0:  // Flip a bit.
      if (!bytes.empty())
        bytes[random.Below(bytes.size())] ^= static_cast<uint8_t>(1 << random.Below(8));
      break;
    case 1:  // Any byte.
      if (!bytes.empty()) bytes[random.Below(bytes.size())] = static_cast<uint8_t>(random());
      break;
    case 2: {  // A big-endian number of one, two or four bytes.
      const size_t width = size_t{1} << random.Below(3);
      const uint32_t value = kInteresting[random.Below(std::size(kInteresting))];
      if (bytes.size() < width) break;
      const size_t at = random.Below(bytes.size() - width + 1);
      for (size_t i = 0; i < width; ++i) {
        bytes[at + i] = static_cast<uint8_t>(value >> (8 * (width - 1 - i)));
      }
      break;
    }
    case 3:  // Cut the end off.
      bytes.resize(static_cast<size_t>(place()));
      break;
    case 4:  // Insert some bytes, or take some away.
      if (random.Below(2) == 0) {
        bytes.insert(bytes.begin() + place(), 1 + random.Below(8), static_cast<uint8_t>(random()));
      } else {
        const ptrdiff_t from = place();
        const auto count = static_cast<ptrdiff_t>(random.Below(8));
        bytes.erase(bytes.begin() + from,
                    bytes.begin() + std::min(from + count, static_cast<ptrdiff_t>(bytes.size())));
      }
      break;
    default: {  // Go on as another seed does.
      const ptrdiff_t from = place();
      bytes.resize(static_cast<size_t>(from));
      if (static_cast<size_t>(from) < other.size())
        bytes.insert(bytes.end(), other.begin() + from, other.end());
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: %s SEED_FOLDER [MUTATIONS_PER_SEED]\n", argv[0]);
    return 2;
  }
  const int mutations = argc > 2 ? std::atoi(argv[2]) : 5000;
  const std::vector<Seed> seeds = ReadSeeds(argv[1]);
  if (seeds.empty()) {
    std::fprintf(stderr, "no seeds in %s\n", argv[1]);
    return 1;
  }
  Random random(1);
  for (const Seed& seed : seeds) {
    LLVMFuzzerTestOneInput(seed.bytes.data(), seed.bytes.size());
    for (int i = 0; i < mutations; ++i) {
      Bytes bytes = seed.bytes;
      for (uint64_t steps = 1 + random.Below(4); steps > 0; --steps) {
        Mutate(bytes, seeds[random.Below(seeds.size())].bytes, random);
      }
      bytes.shrink_to_fit();  // A sanitizer then sees a read past the end.
      LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
    }
  }
  std::printf("%zu seeds, %d mutations of each\n", seeds.size(), mutations);
  return 0;
}
