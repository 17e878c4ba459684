#include "net/distinguished_name.h"

#include <gtest/gtest.h>
#include <openssl/x509.h>

#include <string>
#include <vector>

#include "base/hex.h"

namespace holdfast::net {
namespace {

struct Part {
  const char* type;
  int encoding;
  std::string value;
  bool beside = false;  // In one set with the part before.
};

std::string NameOf(const std::vector<Part>& parts) {
  X509_NAME* const made = X509_NAME_new();
  for (const Part& part : parts) {
    EXPECT_EQ(
        X509_NAME_add_entry_by_txt(made, part.type, part.encoding,
                                   reinterpret_cast<const unsigned char*>(part.value.data()),
                                   static_cast<int>(part.value.size()), -1, part.beside ? -1 : 0),
        1)
        << part.type;
  }
  // As it comes in a certificate: sets are sorted.
  X509_NAME* const encoded = X509_NAME_dup(made);
  std::string name = DistinguishedName(encoded);
  X509_NAME_free(encoded);
  X509_NAME_free(made);
  return name;
}

// What javax.security.auth.x500.X500Principal.getName() of Java 17 makes of the same names.
TEST(DistinguishedNameTest, IsWrittenAsByJava) {
  constexpr int kUtf8 = V_ASN1_UTF8STRING;
  constexpr int kPrintable = V_ASN1_PRINTABLESTRING;
  EXPECT_EQ(NameOf({{"C", kPrintable, "DE"},
                    {"ST", kUtf8, "BY"},
                    {"O", kUtf8, "Example, Inc."},
                    {"OU", kUtf8, "a=b"},
                    {"CN", kUtf8, "orders"},
                    {"emailAddress", V_ASN1_IA5STRING, "ops@example.org"}}),
            "1.2.840.113549.1.9.1=#160f6f7073406578616d706c652e6f7267,CN=orders,OU=a\\=b,"
            "O=Example\\, Inc.,ST=BY,C=DE");
  EXPECT_EQ(NameOf({{"O", kUtf8, "Example"},
                    {"serialNumber", kPrintable, "123"},
                    {"UID", kUtf8, "u1"},
                    {"DC", V_ASN1_IA5STRING, "org"},
                    {"CN", kUtf8, "orders"}}),
            "CN=orders,DC=org,UID=u1,2.5.4.5=#1303313233,O=Example");
  EXPECT_EQ(NameOf({{"CN", kUtf8, "orders"},
                    {"street", kUtf8, "Weg 1"},
                    {"L", kUtf8, "Ulm"},
                    {"title", kUtf8, "Dr"},
                    {"SN", kUtf8, "M\xc3\xbcller"},
                    {"GN", kPrintable, "A"},
                    {"1.2.3.4", kUtf8, "x"}}),
            "1.2.3.4=#0c0178,2.5.4.42=#130141,2.5.4.4=#0c074dc3bc6c6c6572,2.5.4.12=#0c024472,"
            "L=Ulm,STREET=Weg 1,CN=orders");
  EXPECT_EQ(NameOf({{"O", kUtf8, "Example"},
                    {"CN", kUtf8, "orders"},
                    {"OU", kUtf8, "b", true},
                    {"UID", kUtf8, "a", true},
                    {"C", kPrintable, "DE"}}),
            "C=DE,OU=b+CN=orders+UID=a,O=Example");
  EXPECT_EQ(NameOf({}), "");
}

// OpenSSL reads it, and does not write it down.
TEST(DistinguishedNameTest, ATypeMayBeOfAnyLength) {
  std::string der = {0x06, static_cast<char>(0x82), 0x02, 0x58, 0x2a};
  der.append(599, 0x01);
  const auto* bytes = reinterpret_cast<const unsigned char*>(der.data());
  ASN1_OBJECT* const type = d2i_ASN1_OBJECT(nullptr, &bytes, static_cast<long>(der.size()));
  ASSERT_NE(type, nullptr);
  X509_NAME* const made = X509_NAME_new();
  const auto* const value = reinterpret_cast<const unsigned char*>("x");
  ASSERT_EQ(X509_NAME_add_entry_by_OBJ(made, type, V_ASN1_UTF8STRING, value, 1, -1, 0), 1);
  EXPECT_EQ(DistinguishedName(made), "#" + base::ToHex(der.substr(4)) + "=#0c0178");
  X509_NAME_free(made);
  ASN1_OBJECT_free(type);
}

TEST(DistinguishedNameTest, ValuesAreEscapedAsByJava) {
  const auto value = [](std::string text, int encoding = V_ASN1_UTF8STRING) {
    return NameOf({{"CN", encoding, std::move(text)}});
  };
  EXPECT_EQ(value(R"(a,b=c+d<e>f#g;h"i\j)"), R"(CN=a\,b\=c\+d\<e\>f\#g\;h\"i\\j)");
  EXPECT_EQ(value("#1"), "CN=\\#1");
  EXPECT_EQ(value("  a  b "), "CN=\\ \\ a  b\\ ");
  EXPECT_EQ(value("   "), "CN=\\ \\ \\ ");
  EXPECT_EQ(value(""), "CN=");
  EXPECT_EQ(value("\ra\r"), "CN=\\\ra\\\r");
  EXPECT_EQ(value("\ta\nb\x7f\x01"), "CN=\ta\nb\x7f\x01");
  EXPECT_EQ(value(std::string("a\0b", 3)), "CN=a\\00b");
  const std::string beyond_ascii = "J\xc3\xbcrgen \xe6\x97\xa5\xf0\x9f\x98\x80/*@'";
  EXPECT_EQ(value(beyond_ascii), "CN=" + beyond_ascii);
  EXPECT_EQ(value(std::string("\0J", 2), V_ASN1_BMPSTRING), "CN=\\00J");
  EXPECT_EQ(value(std::string("\0\0\0J\0\x01\xf6\0", 8), V_ASN1_UNIVERSALSTRING),
            "CN=#1c080000004a0001f600");
  EXPECT_EQ(value("123", V_ASN1_NUMERICSTRING), "CN=#1203313233");
}

// Java makes one and the same of both.
TEST(DistinguishedNameTest, ValuesThatAreNotUtf8StayDifferent) {
  EXPECT_EQ(NameOf({{"CN", V_ASN1_T61STRING, "J\xfcrgen"}}), "CN=#14064afc7267656e");
  EXPECT_EQ(NameOf({{"CN", V_ASN1_T61STRING, "J\xfdrgen"}}), "CN=#14064afd7267656e");
}

}  // namespace
}  // namespace holdfast::net
