#include "kafka/api/sasl_authenticate.h"
#include "kafka/api/sasl_handshake.h"
#include "kafka/codec_templates.h"

namespace holdfast::kafka {

HF_KAFKA_API(SaslHandshake);
HF_KAFKA_API(SaslAuthenticate);

}  // namespace holdfast::kafka
