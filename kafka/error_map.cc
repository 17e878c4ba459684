#include "kafka/error_map.h"

namespace holdfast::kafka {

ErrorCode ToPartitionError(base::Code code) {
  switch (code) {
    case base::Code::kInvalid:
      return ErrorCode::kInvalidRequest;
    case base::Code::kNotFound:
      return ErrorCode::kUnknownTopicOrPartition;
    case base::Code::kFull:
      // "Not appended, try again": the one code that all clients retry without asking for a new
      // leader.
      return ErrorCode::kNotEnoughReplicas;
    case base::Code::kUnavailable:
    case base::Code::kClosed:
      return ErrorCode::kLeaderNotAvailable;
    case base::Code::kTimeout:
      return ErrorCode::kRequestTimedOut;
    case base::Code::kCorrupt:
    case base::Code::kIo:
      return ErrorCode::kKafkaStorageError;
  }
  return ErrorCode::kUnknownServerError;
}

ErrorCode ToCoordinatorError(base::Code code) {
  switch (code) {
    case base::Code::kInvalid:
      return ErrorCode::kInvalidRequest;
    case base::Code::kNotFound:
      return ErrorCode::kGroupIdNotFound;
    case base::Code::kFull:
    case base::Code::kUnavailable:
    case base::Code::kClosed:
    case base::Code::kTimeout:
    case base::Code::kCorrupt:
    case base::Code::kIo:
      return ErrorCode::kCoordinatorNotAvailable;
  }
  return ErrorCode::kUnknownServerError;
}

}  // namespace holdfast::kafka
