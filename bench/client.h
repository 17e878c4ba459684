// A blocking Kafka client of few lines: whatever fails ends the benchmark.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "base/buffer.h"
#include "bench/samples.h"
#include "kafka/codec.h"

namespace holdfast::bench {

// HOST:PORT; returns the socket.
int Connect(const std::string& address);
void WriteAll(int fd, std::string_view bytes);
// Without its length.
std::string ReadFrame(int fd);

template <class Request>
base::Buffer Encode(const Request& request, int16_t version) {
  auto frame = kafka::EncodeRequest(request, version, /*correlation_id=*/1, "holdfast_bench");
  if (!frame) Die(frame.error().message);
  return *std::move(frame);
}

template <class Request>
typename Request::Response Ask(int fd, const Request& request, int16_t version,
                               std::string* frame) {
  WriteAll(fd, Encode(request, version).view());
  *frame = ReadFrame(fd);  // The answer borrows from it.
  auto response = kafka::DecodeResponse<typename Request::Response>(*frame, version);
  if (!response) Die(response.error().message);
  return *std::move(response);
}

}  // namespace holdfast::bench
