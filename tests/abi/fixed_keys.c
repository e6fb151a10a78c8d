/* Session objects of fixed value, so that what is computed with them can be compared. */
#include "keys.h"

CK_BBOOL ck_true = CK_TRUE, ck_false = CK_FALSE;

static CK_OBJECT_HANDLE create(CK_SESSION_HANDLE session, CK_ATTRIBUTE *template, CK_ULONG count)
{
    CK_OBJECT_HANDLE object = CK_INVALID_HANDLE;
    must(p11->C_CreateObject(session, template, count, &object), "C_CreateObject");
    return object;
}

static CK_OBJECT_HANDLE make_symmetric(CK_SESSION_HANDLE session, CK_KEY_TYPE type,
                                       const CK_BYTE *value, CK_ULONG length)
{
    CK_ATTRIBUTE template[] = {
        ATTR_ULONG(CKA_CLASS, CKO_SECRET_KEY),
        {CKA_KEY_TYPE, &type, sizeof type},
        ATTR_FALSE(CKA_TOKEN),
        ATTR_TRUE(CKA_PRIVATE),
        ATTR_FALSE(CKA_SENSITIVE),
        ATTR_TRUE(CKA_EXTRACTABLE),
        ATTR_TRUE(CKA_ENCRYPT),
        ATTR_TRUE(CKA_DECRYPT),
        ATTR_TRUE(CKA_SIGN),
        ATTR_TRUE(CKA_VERIFY),
        ATTR_TRUE(CKA_WRAP),
        ATTR_TRUE(CKA_UNWRAP),
        ATTR_TRUE(CKA_DERIVE),
        {CKA_VALUE, (void *)value, length},
    };
    return create(session, template, COUNT(template));
}

CK_OBJECT_HANDLE make_aes(CK_SESSION_HANDLE session, CK_ULONG length)
{
    return make_symmetric(session, CKK_AES, aes_value, length);
}

CK_OBJECT_HANDLE make_des3(CK_SESSION_HANDLE session)
{
    return make_symmetric(session, CKK_DES3, des3_value, sizeof des3_value);
}

CK_OBJECT_HANDLE make_secret(CK_SESSION_HANDLE session, CK_ULONG length)
{
    return make_symmetric(session, CKK_GENERIC_SECRET, rsa_modulus, length);
}

CK_OBJECT_HANDLE make_data(CK_SESSION_HANDLE session, const char *label, const char *value)
{
    CK_ATTRIBUTE template[] = {
        ATTR_ULONG(CKA_CLASS, CKO_DATA),
        ATTR_FALSE(CKA_TOKEN),
        ATTR_FALSE(CKA_PRIVATE),
        {CKA_LABEL, (void *)label, strlen(label)},
        {CKA_VALUE, (void *)value, strlen(value)},
    };
    return create(session, template, COUNT(template));
}

struct key_pair make_rsa(CK_SESSION_HANDLE session)
{
    CK_ATTRIBUTE public_key[] = {
        ATTR_ULONG(CKA_CLASS, CKO_PUBLIC_KEY),
        ATTR_ULONG(CKA_KEY_TYPE, CKK_RSA),
        ATTR_FALSE(CKA_TOKEN),
        ATTR_TRUE(CKA_ENCRYPT),
        ATTR_TRUE(CKA_VERIFY),
        ATTR_TRUE(CKA_VERIFY_RECOVER),
        ATTR_TRUE(CKA_WRAP),
        ATTR_BYTES(CKA_MODULUS, rsa_modulus),
        ATTR_BYTES(CKA_PUBLIC_EXPONENT, rsa_public_exponent),
    };
    CK_ATTRIBUTE private_key[] = {
        ATTR_ULONG(CKA_CLASS, CKO_PRIVATE_KEY),
        ATTR_ULONG(CKA_KEY_TYPE, CKK_RSA),
        ATTR_FALSE(CKA_TOKEN),
        ATTR_TRUE(CKA_PRIVATE),
        ATTR_FALSE(CKA_SENSITIVE),
        ATTR_TRUE(CKA_EXTRACTABLE),
        ATTR_TRUE(CKA_DECRYPT),
        ATTR_TRUE(CKA_SIGN),
        ATTR_TRUE(CKA_SIGN_RECOVER),
        ATTR_TRUE(CKA_UNWRAP),
        ATTR_BYTES(CKA_MODULUS, rsa_modulus),
        ATTR_BYTES(CKA_PUBLIC_EXPONENT, rsa_public_exponent),
        ATTR_BYTES(CKA_PRIVATE_EXPONENT, rsa_private_exponent),
        ATTR_BYTES(CKA_PRIME_1, rsa_prime_1),
        ATTR_BYTES(CKA_PRIME_2, rsa_prime_2),
        ATTR_BYTES(CKA_EXPONENT_1, rsa_exponent_1),
        ATTR_BYTES(CKA_EXPONENT_2, rsa_exponent_2),
        ATTR_BYTES(CKA_COEFFICIENT, rsa_coefficient),
    };
    return (struct key_pair){create(session, public_key, COUNT(public_key)),
                             create(session, private_key, COUNT(private_key))};
}

static struct key_pair make_curve(CK_SESSION_HANDLE session, CK_KEY_TYPE type, CK_ATTRIBUTE params,
                                  CK_ATTRIBUTE point, CK_ATTRIBUTE value)
{
    CK_ATTRIBUTE public_key[] = {
        ATTR_ULONG(CKA_CLASS, CKO_PUBLIC_KEY),
        {CKA_KEY_TYPE, &type, sizeof type},
        ATTR_FALSE(CKA_TOKEN),
        ATTR_TRUE(CKA_VERIFY),
        params,
        point,
    };
    CK_ATTRIBUTE private_key[] = {
        ATTR_ULONG(CKA_CLASS, CKO_PRIVATE_KEY),
        {CKA_KEY_TYPE, &type, sizeof type},
        ATTR_FALSE(CKA_TOKEN),
        ATTR_TRUE(CKA_PRIVATE),
        ATTR_FALSE(CKA_SENSITIVE),
        ATTR_TRUE(CKA_EXTRACTABLE),
        ATTR_TRUE(CKA_SIGN),
        ATTR_TRUE(CKA_DERIVE),
        params,
        value,
    };
    return (struct key_pair){create(session, public_key, COUNT(public_key)),
                             create(session, private_key, COUNT(private_key))};
}

struct key_pair make_ec(CK_SESSION_HANDLE session)
{
    return make_curve(session, CKK_EC, (CK_ATTRIBUTE)ATTR_BYTES(CKA_EC_PARAMS, ec_params_p256),
                      (CK_ATTRIBUTE)ATTR_BYTES(CKA_EC_POINT, ec_point),
                      (CK_ATTRIBUTE)ATTR_BYTES(CKA_VALUE, ec_value));
}

struct key_pair make_ed(CK_SESSION_HANDLE session)
{
    return make_curve(session, CKK_EC_EDWARDS, (CK_ATTRIBUTE)ATTR_BYTES(CKA_EC_PARAMS, ed_params),
                      (CK_ATTRIBUTE)ATTR_BYTES(CKA_EC_POINT, ed_point),
                      (CK_ATTRIBUTE)ATTR_BYTES(CKA_VALUE, ed_value));
}

struct key_pair make_dsa(CK_SESSION_HANDLE session)
{
    CK_ATTRIBUTE public_key[] = {
        ATTR_ULONG(CKA_CLASS, CKO_PUBLIC_KEY),
        ATTR_ULONG(CKA_KEY_TYPE, CKK_DSA),
        ATTR_FALSE(CKA_TOKEN),
        ATTR_TRUE(CKA_VERIFY),
        ATTR_BYTES(CKA_PRIME, dsa_prime),
        ATTR_BYTES(CKA_SUBPRIME, dsa_subprime),
        ATTR_BYTES(CKA_BASE, dsa_base),
        ATTR_BYTES(CKA_VALUE, dsa_public),
    };
    CK_ATTRIBUTE private_key[] = {
        ATTR_ULONG(CKA_CLASS, CKO_PRIVATE_KEY),
        ATTR_ULONG(CKA_KEY_TYPE, CKK_DSA),
        ATTR_FALSE(CKA_TOKEN),
        ATTR_TRUE(CKA_PRIVATE),
        ATTR_TRUE(CKA_SIGN),
        ATTR_BYTES(CKA_PRIME, dsa_prime),
        ATTR_BYTES(CKA_SUBPRIME, dsa_subprime),
        ATTR_BYTES(CKA_BASE, dsa_base),
        ATTR_BYTES(CKA_VALUE, dsa_value),
    };
    return (struct key_pair){create(session, public_key, COUNT(public_key)),
                             create(session, private_key, COUNT(private_key))};
}

CK_OBJECT_HANDLE make_dh(CK_SESSION_HANDLE session)
{
    CK_ATTRIBUTE private_key[] = {
        ATTR_ULONG(CKA_CLASS, CKO_PRIVATE_KEY),
        ATTR_ULONG(CKA_KEY_TYPE, CKK_DH),
        ATTR_FALSE(CKA_TOKEN),
        ATTR_TRUE(CKA_PRIVATE),
        ATTR_TRUE(CKA_DERIVE),
        ATTR_BYTES(CKA_PRIME, dh_prime),
        ATTR_BYTES(CKA_BASE, dh_base),
        ATTR_BYTES(CKA_VALUE, dh_value),
    };
    return create(session, private_key, COUNT(private_key));
}
