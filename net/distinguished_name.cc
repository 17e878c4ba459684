#include "net/distinguished_name.h"

#include <openssl/asn1.h>
#include <openssl/objects.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "base/hex.h"
#include "base/utf8.h"
#include "net/tls.h"

namespace holdfast::net {
namespace {

constexpr auto kKeywords =
    std::to_array<std::pair<int, std::string_view>>({{NID_commonName, "CN"},
                                                     {NID_countryName, "C"},
                                                     {NID_localityName, "L"},
                                                     {NID_stateOrProvinceName, "ST"},
                                                     {NID_organizationName, "O"},
                                                     {NID_organizationalUnitName, "OU"},
                                                     {NID_streetAddress, "STREET"},
                                                     {NID_domainComponent, "DC"},
                                                     {NID_userId, "UID"}});

std::string NumbersOf(const ASN1_OBJECT* type) {
  const int size = OBJ_obj2txt(nullptr, 0, type, /*no_name=*/1);
  // It is too long for OpenSSL to write it down, as anybody's certificate may have it.
  if (size <= 0) {
    const auto* const der = reinterpret_cast<const char*>(OBJ_get0_data(type));
    return "#" + base::ToHex({der, OBJ_length(type)});
  }
  std::string numbers(static_cast<size_t>(size) + 1, '\0');
  OBJ_obj2txt(numbers.data(), size + 1, type, /*no_name=*/1);
  numbers.pop_back();
  return numbers;
}

std::string_view BytesOf(const ASN1_STRING* value) {
  return {reinterpret_cast<const char*>(ASN1_STRING_get0_data(value)),
          static_cast<size_t>(ASN1_STRING_length(value))};
}

bool IsText(const ASN1_STRING* value) {
  switch (ASN1_STRING_type(value)) {
    case V_ASN1_PRINTABLESTRING:
    case V_ASN1_UTF8STRING:
    case V_ASN1_T61STRING:
    case V_ASN1_IA5STRING:
    case V_ASN1_GENERALSTRING:
    case V_ASN1_BMPSTRING:
      return base::IsUtf8(BytesOf(value));
    default:
      return false;
  }
}

std::string Escaped(std::string_view text) {
  constexpr std::string_view kBlanks = " \r";
  constexpr std::string_view kSpecial = ",=+<>#;\"\\";
  const size_t first = text.find_first_not_of(kBlanks);
  const size_t last = text.find_last_not_of(kBlanks);
  std::string escaped;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\0') {
      escaped += "\\00";
      continue;
    }
    if (i < first || i > last || kSpecial.find(text[i]) != std::string_view::npos) escaped += '\\';
    escaped += text[i];
  }
  return escaped;
}

std::string InHex(const ASN1_STRING* value) {
  ASN1_TYPE typed;
  typed.type = ASN1_STRING_type(value);
  typed.value.asn1_string = const_cast<ASN1_STRING*>(value);
  unsigned char* der = nullptr;
  const int size = i2d_ASN1_TYPE(&typed, &der);
  if (size <= 0) return "#";
  std::string hex =
      "#" + base::ToHex({reinterpret_cast<const char*>(der), static_cast<size_t>(size)});
  OPENSSL_free(der);
  return hex;
}

std::string PartOf(const X509_NAME_ENTRY* entry) {
  const ASN1_OBJECT* const type = X509_NAME_ENTRY_get_object(entry);
  const ASN1_STRING* const value = X509_NAME_ENTRY_get_data(entry);
  const auto known =
      std::ranges::find(kKeywords, OBJ_obj2nid(type), &std::pair<int, std::string_view>::first);
  if (known == kKeywords.end()) return NumbersOf(type) + "=" + InHex(value);
  return std::string(known->second) + "=" +
         (IsText(value) ? Escaped(BytesOf(value)) : InHex(value));
}

}  // namespace

std::string DistinguishedName(const X509_name_st* name) {
  const auto set_of = [&](int i) { return X509_NAME_ENTRY_set(X509_NAME_get_entry(name, i)); };
  std::string text;
  for (int end = X509_NAME_entry_count(name); end > 0;) {
    int begin = end - 1;
    while (begin > 0 && set_of(begin - 1) == set_of(end - 1)) --begin;
    if (!text.empty()) text += ',';
    for (int i = begin; i < end; ++i) {
      if (i > begin) text += '+';
      text += PartOf(X509_NAME_get_entry(name, i));
    }
    end = begin;
  }
  return text;
}

std::vector<std::string> UrisOf(const TlsContext& shown) {
  std::vector<std::string> uris;
  const X509* const certificate = SSL_CTX_get0_certificate(shown.get());
  if (certificate == nullptr) return uris;
  auto* const names = static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr));
  for (int i = 0; i < sk_GENERAL_NAME_num(names); ++i) {
    const GENERAL_NAME* const name = sk_GENERAL_NAME_value(names, i);
    if (name->type != GEN_URI) continue;
    const ASN1_STRING* const uri = name->d.uniformResourceIdentifier;
    uris.emplace_back(reinterpret_cast<const char*>(ASN1_STRING_get0_data(uri)),
                      static_cast<size_t>(ASN1_STRING_length(uri)));
  }
  GENERAL_NAMES_free(names);
  std::ranges::sort(uris);
  return uris;
}

}  // namespace holdfast::net
