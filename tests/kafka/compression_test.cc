#include "kafka/compression.h"

#include <gtest/gtest.h>
#include <lz4frame.h>
#include <snappy.h>
#include <zstd.h>

#include <string>

#include "base/endian.h"
#include "base/random.h"

namespace holdfast::kafka {
namespace {

using base::Code;

constexpr Codec kAll[] = {Codec::kNone, Codec::kGzip, Codec::kSnappy, Codec::kLz4, Codec::kZstd};
constexpr Codec kReal[] = {Codec::kGzip, Codec::kSnappy, Codec::kLz4, Codec::kZstd};

// Half text, half noise, so that codecs use both of their ways.
std::string Sample(size_t size) {
  base::Random random(size);
  std::string sample;
  while (sample.size() < size) {
    if (random.Below(2) == 0) {
      sample += "the quick brown fox jumps over the lazy dog ";
    } else {
      for (int i = 0; i < 40; ++i) sample.push_back(static_cast<char>(random.Below(256)));
    }
  }
  sample.resize(size);
  return sample;
}

class EachCodec : public testing::TestWithParam<Codec> {};
INSTANTIATE_TEST_SUITE_P(CompressionTest, EachCodec, testing::ValuesIn(kAll),
                         [](const auto& each) { return std::string(CodecName(each.param)); });
class EachCompressingCodec : public testing::TestWithParam<Codec> {};
INSTANTIATE_TEST_SUITE_P(CompressionTest, EachCompressingCodec, testing::ValuesIn(kReal),
                         [](const auto& each) { return std::string(CodecName(each.param)); });

TEST_P(EachCodec, GivesBackWhatItTook) {
  for (const size_t size : {0, 1, 255, 32 * 1024, 32 * 1024 + 1, 64 * 1024, 1'000'000, 3'000'000}) {
    const std::string sample = Sample(size);
    auto back = Decompress(GetParam(), Compress(GetParam(), sample));
    ASSERT_TRUE(back) << size << ": " << back.error().message;
    EXPECT_EQ(*back, sample) << size;
  }
}

TEST_P(EachCodec, KeepsToTheLimitExactly) {
  const std::string sample = Sample(100'000);
  const std::string packed = Compress(GetParam(), sample);
  EXPECT_TRUE(Decompress(GetParam(), packed, sample.size()));
  auto refused = Decompress(GetParam(), packed, sample.size() - 1);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::kFull);
}

TEST_P(EachCompressingCodec, RefusesABomb) {
  const std::string bomb = Compress(GetParam(), std::string(size_t{100} << 20, '\0'));
  auto refused = Decompress(GetParam(), bomb, 1 << 20);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::kFull);
}

TEST_P(EachCompressingCodec, RefusesWhatIsCutOff) {
  const std::string packed = Compress(GetParam(), Sample(3000));
  for (size_t size = 0; size < packed.size(); ++size) {
    // Xerial framing has no end mark: after its header, or a whole block, it may end.
    if (GetParam() == Codec::kSnappy && size == 16) continue;
    auto refused = Decompress(GetParam(), packed.substr(0, size));
    ASSERT_FALSE(refused) << size;
    EXPECT_EQ(refused.error().code, Code::kCorrupt) << size;
  }
}

TEST_P(EachCompressingCodec, RefusesGarbage) {
  auto refused = Decompress(GetParam(), "\xff\xfe garbage that nobody ever compressed");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::kCorrupt);
}

TEST(CompressionTest, UnassignedCodecIsRefused) {
  auto refused = Decompress(static_cast<Codec>(5), "x");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::kInvalid);
}

TEST_P(EachCompressingCodec, ADamagedBatchTakesLittleOfTheBudget) {
  DecompressionBudget budget(0);
  const std::string sample = Sample(100'000);
  const std::string packed = Compress(GetParam(), sample);
  const std::string_view cut_off = std::string_view(packed).substr(0, packed.size() - 1);
  for (int i = 0; i < 100; ++i) {
    for (const std::string_view damaged : {std::string_view("\xff\xfe garbage"), cut_off}) {
      const auto refused = budget.Decompress(GetParam(), damaged, kDecompressedLimit);
      ASSERT_FALSE(refused);
      ASSERT_EQ(refused.error().code, Code::kCorrupt) << i;
    }
  }
  EXPECT_EQ(budget.Decompress(GetParam(), packed, kDecompressedLimit).value_or(""), sample);
}

TEST_P(EachCompressingCodec, WhatADamagedBatchHoldsIsOfTheBudget) {
  DecompressionBudget budget(0);
  const std::string packed = Compress(GetParam(), std::string(60'000'000, '.'));
  const std::string_view cut_off = std::string_view(packed).substr(0, packed.size() - 1);
  for (int i = 0; i < 5; ++i) {
    const auto refused = budget.Decompress(GetParam(), cut_off, kDecompressedLimit);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, i < 4 ? Code::kCorrupt : Code::kUnavailable) << i;
  }
}

// ---- snappy ----

TEST(SnappyTest, RawBlockOfLibrdkafkaIsRead) {
  const std::string sample = Sample(200'000);
  std::string raw;
  snappy::Compress(sample.data(), sample.size(), &raw);
  auto back = Decompress(Codec::kSnappy, raw);
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_EQ(*back, sample);
}

TEST(SnappyTest, WritesJavasFraming) {
  const std::string packed = Compress(Codec::kSnappy, Sample(40'000));
  EXPECT_EQ(packed.substr(0, 16), std::string("\x82SNAPPY\0\0\0\0\1\0\0\0\1", 16));
  const auto length = base::LoadBig<int32_t>(packed.data() + 16);
  size_t block = 0;
  ASSERT_TRUE(
      snappy::GetUncompressedLength(packed.data() + 20, static_cast<size_t>(length), &block));
  EXPECT_EQ(block, 32u * 1024);
}

TEST(SnappyTest, VersionsInTheFramingAreNotBelieved) {
  std::string packed = Compress(Codec::kSnappy, "hello hello hello");
  packed.replace(8, 8,
                 std::string("\1\0\0\0\1\0\0\0", 8));  // Little-endian, as Redpanda once wrote.
  EXPECT_EQ(Decompress(Codec::kSnappy, packed).value_or(""), "hello hello hello");
}

TEST(SnappyTest, BlockThatClaimsGigabytesIsRefusedUnread) {
  // The varint says 4 GiB - 1; three bytes follow.
  const std::string lie("\xff\xff\xff\xff\x0f\x00\x61\x00", 8);
  auto refused = Decompress(Codec::kSnappy, lie, SIZE_MAX);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::kCorrupt);
}

// ---- LZ4 ----

std::string Lz4(std::string_view bytes, LZ4F_preferences_t preferences) {
  std::string out(LZ4F_compressFrameBound(bytes.size(), &preferences), '\0');
  out.resize(LZ4F_compressFrame(out.data(), out.size(), bytes.data(), bytes.size(), &preferences));
  return out;
}

TEST(Lz4Test, EveryBlockSizeAndChecksumIsRead) {
  const std::string sample = Sample(300'000);
  for (const LZ4F_blockSizeID_t block : {LZ4F_max64KB, LZ4F_max256KB, LZ4F_max1MB, LZ4F_max4MB}) {
    LZ4F_preferences_t preferences = LZ4F_INIT_PREFERENCES;
    preferences.frameInfo.blockMode = LZ4F_blockIndependent;
    preferences.frameInfo.blockSizeID = block;
    preferences.frameInfo.contentSize = sample.size();
    preferences.frameInfo.blockChecksumFlag = LZ4F_blockChecksumEnabled;
    preferences.frameInfo.contentChecksumFlag = LZ4F_contentChecksumEnabled;
    EXPECT_EQ(Decompress(Codec::kLz4, Lz4(sample, preferences)).value_or(""), sample);
  }
}

TEST(Lz4Test, DependentBlocksAreRefusedAsJavaCannotReadThem) {
  LZ4F_preferences_t preferences = LZ4F_INIT_PREFERENCES;
  preferences.frameInfo.blockMode = LZ4F_blockLinked;
  auto refused = Decompress(Codec::kLz4, Lz4(Sample(300'000), preferences));
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("depend"), std::string::npos);
}

TEST(Lz4Test, WritesJavasFrames) {
  const std::string packed = Compress(Codec::kLz4, Sample(1000));
  EXPECT_EQ(packed[4] & 0x3c, 0x20);  // Independent blocks; no checksums, no content size.
  EXPECT_EQ(packed[5], 0x40);         // Blocks of 64 KiB.
}

TEST(Lz4Test, OneFrameIsReadAndNoFurther) {
  EXPECT_EQ(Decompress(Codec::kLz4, Compress(Codec::kLz4, "one") + Compress(Codec::kLz4, "two"))
                .value_or(""),
            "one");
}

// ---- gzip and zstd ----

TEST(GzipTest, SeveralMembersAreRead) {
  EXPECT_EQ(Decompress(Codec::kGzip, Compress(Codec::kGzip, "one") + Compress(Codec::kGzip, "two"))
                .value_or(""),
            "onetwo");
}

TEST(ZstdTest, StreamedFramesWithoutContentSizeAreRead) {
  const std::string sample = Sample(700'000);
  ZSTD_CCtx* const context = ZSTD_createCCtx();
  std::string packed(ZSTD_compressBound(sample.size()), '\0');
  ZSTD_outBuffer out{packed.data(), packed.size(), 0};
  ZSTD_inBuffer in{sample.data(), sample.size(), 0};
  ASSERT_FALSE(ZSTD_isError(ZSTD_compressStream2(context, &out, &in, ZSTD_e_continue)));
  ASSERT_EQ(ZSTD_compressStream2(context, &out, &in, ZSTD_e_end), 0u);
  ZSTD_freeCCtx(context);
  packed.resize(out.pos);
  ASSERT_EQ(ZSTD_getFrameContentSize(packed.data(), packed.size()), ZSTD_CONTENTSIZE_UNKNOWN);
  EXPECT_EQ(Decompress(Codec::kZstd, packed).value_or(""), sample);
}

TEST(ZstdTest, SeveralFramesAreRead) {
  EXPECT_EQ(Decompress(Codec::kZstd, Compress(Codec::kZstd, "one") + Compress(Codec::kZstd, "two"))
                .value_or(""),
            "onetwo");
}

}  // namespace
}  // namespace holdfast::kafka
