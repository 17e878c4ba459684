#include "cli/loops.h"

#include <fmt/format.h>

#include <algorithm>
#include <thread>
#include <utility>

#include "config/holdfast.pb.h"
#include "net/logging_routes.h"

namespace holdfast::cli {
namespace {

constexpr uint32_t kDefaultWorkersMax = 8;

uint32_t WorkerCount(uint32_t configured) {
  if (configured != 0) return configured;
  return std::clamp<uint32_t>(std::thread::hardware_concurrency(), 1, kDefaultWorkersMax);
}

std::vector<net::EventLoop*> LoopsOf(const std::vector<std::unique_ptr<net::LoopThread>>& threads) {
  std::vector<net::EventLoop*> loops;
  for (const auto& thread : threads) loops.push_back(&thread->loop());
  return loops;
}

}  // namespace

base::Result<Loops> Loops::Start(uint32_t workers, metrics::NetMetrics* metrics, size_t blocking) {
  const auto start = [metrics](std::string name) {
    return net::LoopThread::Start({.name = std::move(name), .metrics = metrics});
  };
  Loops loops;
  for (uint32_t i = 0; i < WorkerCount(workers); ++i) {
    HF_ASSIGN_OR_RETURN(auto worker, start("worker" + std::to_string(i)));
    loops.workers_.push_back(std::move(worker));
  }
  HF_ASSIGN_OR_RETURN(loops.upstream_, start("upstream"));
  HF_ASSIGN_OR_RETURN(loops.writer_, start("writer"));
  HF_ASSIGN_OR_RETURN(loops.background_, start("background"));
  HF_ASSIGN_OR_RETURN(loops.admin_, start("admin"));
  // Without metrics: such a loop's turns last as long as a database or service takes to answer.
  for (size_t i = 0; i < blocking; ++i) {
    HF_ASSIGN_OR_RETURN(auto one, net::LoopThread::Start({.name = "blocking" + std::to_string(i)}));
    loops.blocking_.push_back(std::move(one));
  }
  return loops;
}

std::vector<net::EventLoop*> Loops::workers() const { return LoopsOf(workers_); }

std::vector<net::EventLoop*> Loops::blocking() const { return LoopsOf(blocking_); }

std::vector<base::Executor*> Loops::watched() const {
  std::vector<base::Executor*> watched{&upstream(), &writer(), &admin()};
  for (const auto& worker : workers_) watched.push_back(&worker->loop());
  return watched;
}

base::Result<spool::Options> SpoolOptionsOf(const config::Storage& config, std::string_view where) {
  const std::vector<std::string> keys(config.encryption_keys().begin(),
                                      config.encryption_keys().end());
  auto ring = spool::KeyRing::Parse(keys);
  if (!ring) return base::Unexpected(std::move(ring).error().Within(where));
  if (config.bytes_max() != 0 && config.bytes_max() < spool::Options::kBytesMaxMin) {
    return base::Unexpected(base::Code::kInvalid,
                            fmt::format("{}.bytes_max is {}, and must be at least 4MiB, or 0 for "
                                        "no limit but the file system's",
                                        where, config.bytes_max()));
  }
  return spool::Options{.directory = config.directory(),
                        .segment_bytes = config.segment_bytes(),
                        .commit_bytes_max = config.commit_bytes_max(),
                        .queue_bytes_max = config.queue_bytes_max(),
                        .bytes_max = config.bytes_max(),
                        .free_bytes_min = config.free_bytes_min(),
                        .encryption_keys = *std::move(ring)};
}

base::Result<std::unique_ptr<net::AdminServer>> ListenAdmin(const Loops& loops,
                                                            const std::string& address,
                                                            std::vector<net::AdminRoute> routes) {
  if (address.empty()) return nullptr;
  HF_ASSIGN_OR_RETURN(const net::HostPort listen, net::HostPort::Parse(address));
  net::AddLoggingRoutes(&routes);
  return net::AdminServer::Listen(
      loops.admin(), {.listen = listen, .body_bytes_max = size_t{1} << 20}, std::move(routes));
}

}  // namespace holdfast::cli
