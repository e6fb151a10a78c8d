import java.io.InputStream;
import java.io.OutputStream;
import java.math.BigInteger;
import java.nio.ByteBuffer;
import java.security.KeyFactory;
import java.security.KeyPair;
import java.security.KeyPairGenerator;
import java.security.KeyStore;
import java.security.MessageDigest;
import java.security.PrivateKey;
import java.security.Provider;
import java.security.PublicKey;
import java.security.SecureRandom;
import java.security.Security;
import java.security.Signature;
import java.security.cert.Certificate;
import java.security.interfaces.RSAPublicKey;
import java.security.spec.ECGenParameterSpec;
import java.security.spec.MGF1ParameterSpec;
import java.security.spec.PSSParameterSpec;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.HexFormat;
import java.util.List;
import java.util.TreeSet;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import javax.crypto.Cipher;
import javax.crypto.KeyAgreement;
import javax.crypto.KeyGenerator;
import javax.crypto.Mac;
import javax.crypto.SecretKey;
import javax.crypto.SecretKeyFactory;
import javax.crypto.spec.GCMParameterSpec;
import javax.crypto.spec.IvParameterSpec;
import javax.crypto.spec.SecretKeySpec;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLServerSocket;
import javax.net.ssl.SSLSocket;
import javax.net.ssl.TrustManagerFactory;

/**
 * Everything that SunPKCS11 offers over a module, one line per check: "name TAB outcome TAB detail".
 *
 * <p>Arguments: the provider's configuration file, the PIN, and optionally "keytool" when keytool has put keys
 * with certificates into the token before.
 */
public final class Fidelity {
    private static final byte[] DATA = "some data for SunPKCS11 to work on, more than two blocks of it".getBytes();
    private static final byte[] AES_VALUE = new byte[32];
    private static final int THREADS = 8;
    private static final int ROUNDS = 25;

    private static Provider provider;
    private static char[] pin;
    private static KeyStore store;

    /** A session object holds a session open: SunPKCS11 closes others at will, and the last one ends the login. */
    private static SecretKey keeper;

    public static void main(String[] arguments) throws Exception {
        provider = Security.getProvider("SunPKCS11").configure(arguments[0]);
        Security.addProvider(provider);
        pin = arguments[1].toCharArray();
        for (int i = 0; i < AES_VALUE.length; i++) {
            AES_VALUE[i] = (byte) i;
        }
        check("login", () -> {
            store = KeyStore.getInstance("PKCS11", provider);
            store.load(null, pin);
            keeper = KeyGenerator.getInstance("AES", provider).generateKey();
            return "";
        });
        services();
        digests();
        macs();
        ciphers();
        rsa();
        curves();
        others();
        agreements();
        storedKeys();
        threads();
        if (arguments.length > 2) {
            keytoolKeys();
        }
        check("logout", () -> {
            ((java.security.AuthProvider) provider).logout();
            return "";
        });
        System.exit(0);
    }

    /** Runs one check; what it returns must be the same on two equal tokens. */
    private static synchronized void check(String name, Callable<String> body) {
        String outcome;
        try {
            outcome = "pass\t" + body.call();
        } catch (Throwable thrown) {
            StringBuilder chain = new StringBuilder();
            for (Throwable each = thrown; each != null; each = each.getCause()) {
                chain.append(each.getClass().getSimpleName()).append(' ');
                String message = each.getMessage();
                if (message != null && message.contains("CKR_")) {
                    chain.append(message).append(' ');
                }
            }
            outcome = "fail\t" + chain.toString().strip();
        }
        System.out.println(name + "\t" + outcome);
        System.out.flush();
    }

    private static String hex(byte[] bytes) {
        return HexFormat.of().formatHex(bytes);
    }

    private static void expect(boolean condition, String what) {
        if (!condition) {
            throw new IllegalStateException(what);
        }
    }

    private static void services() {
        TreeSet<String> names = new TreeSet<>();
        for (Provider.Service service : provider.getServices()) {
            names.add(service.getType() + "/" + service.getAlgorithm());
        }
        for (String name : names) {
            check("service/" + name, () -> "");
        }
    }

    private static List<String> algorithms(String type) {
        List<String> found = new ArrayList<>();
        for (Provider.Service service : provider.getServices()) {
            if (service.getType().equals(type)) {
                found.add(service.getAlgorithm());
            }
        }
        Collections.sort(found);
        return found;
    }

    private static void digests() {
        byte[] large = new byte[100_000];
        for (String algorithm : algorithms("MessageDigest")) {
            String name = "digest/" + algorithm + "/";
            check(name + "empty", () -> hex(MessageDigest.getInstance(algorithm, provider).digest()));
            check(name + "short", () -> hex(MessageDigest.getInstance(algorithm, provider).digest(DATA)));
            check(name + "large", () -> hex(MessageDigest.getInstance(algorithm, provider).digest(large)));
            check(name + "parts", () -> {
                MessageDigest digest = MessageDigest.getInstance(algorithm, provider);
                for (byte each : DATA) {
                    digest.update(each);
                }
                digest.update(large, 7, 5000);
                return hex(digest.digest());
            });
            check(name + "direct-buffer", () -> {
                ByteBuffer buffer = ByteBuffer.allocateDirect(20_000);
                MessageDigest digest = MessageDigest.getInstance(algorithm, provider);
                digest.update(buffer);
                return hex(digest.digest());
            });
            check(name + "reset", () -> {
                MessageDigest digest = MessageDigest.getInstance(algorithm, provider);
                digest.update(DATA);
                digest.reset();
                return hex(digest.digest(DATA));
            });
        }
    }

    private static void macs() {
        for (String algorithm : algorithms("Mac")) {
            String name = "mac/" + algorithm + "/";
            byte[] value = new byte[64];
            check(name + "given-key", () -> {
                Mac mac = Mac.getInstance(algorithm, provider);
                mac.init(new SecretKeySpec(value, algorithm));
                return hex(mac.doFinal(DATA));
            });
            check(name + "parts", () -> {
                Mac mac = Mac.getInstance(algorithm, provider);
                mac.init(new SecretKeySpec(value, algorithm));
                mac.update(DATA, 0, 10);
                mac.update(ByteBuffer.wrap(DATA, 10, DATA.length - 10));
                byte[] whole = mac.doFinal();
                return hex(whole) + " " + Arrays.equals(whole, mac.doFinal(DATA));
            });
            check(name + "generated-key", () -> {
                SecretKey key = KeyGenerator.getInstance(algorithm, provider).generateKey();
                Mac mac = Mac.getInstance(algorithm, provider);
                mac.init(key);
                return mac.doFinal(DATA).length + " " + key.getFormat();
            });
        }
        for (String algorithm : algorithms("KeyGenerator")) {
            check("key-generator/" + algorithm, () -> {
                SecretKey key = KeyGenerator.getInstance(algorithm, provider).generateKey();
                byte[] encoded = key.getEncoded();
                return key.getAlgorithm() + " " + (encoded == null ? "hidden" : encoded.length);
            });
        }
    }

    /** Parameters for a transformation: an IV of the block's length, GCM's, or none. */
    private static java.security.spec.AlgorithmParameterSpec parametersOf(String transformation) {
        if (transformation.contains("GCM")) {
            return new GCMParameterSpec(128, new byte[12]);
        }
        if (transformation.contains("CBC") || transformation.contains("CTR")) {
            return new IvParameterSpec(new byte[transformation.startsWith("AES") ? 16 : 8]);
        }
        return null;
    }

    private static Cipher cipher(String transformation, int mode, SecretKey key) throws Exception {
        Cipher cipher = Cipher.getInstance(transformation, provider);
        cipher.init(mode, key, parametersOf(transformation));
        if (transformation.contains("GCM")) {
            cipher.updateAAD(DATA, 0, 9);
        }
        return cipher;
    }

    private static void ciphers() {
        for (String transformation : algorithms("Cipher")) {
            if (transformation.startsWith("RSA") || transformation.equals("ARCFOUR")) {
                continue;
            }
            String kind = transformation.replaceAll("[/_].*", "");
            int[] lengths = kind.equals("AES") ? new int[] {16, 24, 32} : new int[] {kind.equals("DES") ? 8 : 24};
            for (int length : lengths) {
                if (transformation.matches("AES_\\d+.*") && !transformation.startsWith("AES_" + 8 * length)) {
                    continue;
                }
                byte[] value = new byte[length];
                for (int i = 0; i < length; i++) {
                    value[i] = (byte) (7 * i + 1);
                }
                SecretKey key = new SecretKeySpec(value, kind);
                cipherChecks("cipher/" + transformation + "/" + 8 * length + "/", transformation, key);
            }
        }
    }

    private static void cipherChecks(String name, String transformation, SecretKey key) {
        byte[] block = Arrays.copyOf(DATA, 48);
        byte[] large = new byte[64 * 1024];
        check(name + "whole", () -> hex(cipher(transformation, Cipher.ENCRYPT_MODE, key).doFinal(block)));
        check(name + "back", () -> {
            byte[] sealed = cipher(transformation, Cipher.ENCRYPT_MODE, key).doFinal(block);
            byte[] opened = cipher(transformation, Cipher.DECRYPT_MODE, key).doFinal(sealed);
            expect(Arrays.equals(block, opened), "not the same");
            return "";
        });
        check(name + "odd-length", () -> {
            byte[] sealed = cipher(transformation, Cipher.ENCRYPT_MODE, key).doFinal(DATA, 0, 21);
            return hex(sealed) + " " + hex(cipher(transformation, Cipher.DECRYPT_MODE, key).doFinal(sealed));
        });
        // Not doFinal(): with GCM that crashes in the provider's own native code, whatever the module.
        check(name + "empty", () -> hex(cipher(transformation, Cipher.ENCRYPT_MODE, key).doFinal(new byte[0])));
        check(name + "parts", () -> {
            Cipher encrypt = cipher(transformation, Cipher.ENCRYPT_MODE, key);
            StringBuilder text = new StringBuilder();
            for (int at = 0; at < block.length; at += 12) {
                byte[] part = encrypt.update(block, at, 12);
                text.append(part == null ? "-" : hex(part)).append('.');
            }
            return text.append(hex(encrypt.doFinal())).toString();
        });
        check(name + "parts-back", () -> {
            byte[] sealed = cipher(transformation, Cipher.ENCRYPT_MODE, key).doFinal(block);
            Cipher decrypt = cipher(transformation, Cipher.DECRYPT_MODE, key);
            StringBuilder text = new StringBuilder();
            for (int at = 0; at < sealed.length; at += 20) {
                byte[] part = decrypt.update(sealed, at, Math.min(20, sealed.length - at));
                text.append(part == null ? "-" : hex(part)).append('.');
            }
            return text.append(hex(decrypt.doFinal())).toString();
        });
        check(name + "large", () -> {
            byte[] sealed = cipher(transformation, Cipher.ENCRYPT_MODE, key).doFinal(large);
            byte[] opened = cipher(transformation, Cipher.DECRYPT_MODE, key).doFinal(sealed);
            expect(Arrays.equals(large, opened), "not the same");
            return sealed.length + " " + Arrays.hashCode(sealed);
        });
        check(name + "direct-buffer", () -> {
            ByteBuffer in = ByteBuffer.allocateDirect(4096);
            ByteBuffer out = ByteBuffer.allocateDirect(8192);
            return cipher(transformation, Cipher.ENCRYPT_MODE, key).doFinal(in, out) + "";
        });
        check(name + "short-output", () -> {
            byte[] out = new byte[8];
            return cipher(transformation, Cipher.ENCRYPT_MODE, key).doFinal(block, 0, 48, out) + "";
        });
        check(name + "given-up", () -> {
            Cipher cipher = cipher(transformation, Cipher.ENCRYPT_MODE, key);
            cipher.update(block, 0, 16);
            cipher.init(Cipher.ENCRYPT_MODE, key, parametersOf(transformation));
            cipher.init(Cipher.DECRYPT_MODE, key, parametersOf(transformation));
            return "";
        });
        check(name + "altered", () -> {
            byte[] sealed = cipher(transformation, Cipher.ENCRYPT_MODE, key).doFinal(block);
            sealed[sealed.length - 1] ^= 1;
            return hex(cipher(transformation, Cipher.DECRYPT_MODE, key).doFinal(sealed));
        });
        check(name + "generated-key", () -> {
            SecretKey made = KeyGenerator.getInstance(key.getAlgorithm(), provider).generateKey();
            String general = transformation.replaceFirst("^AES_\\d+", "AES");
            byte[] sealed = cipher(general, Cipher.ENCRYPT_MODE, made).doFinal(block);
            return sealed.length + " " + Arrays.equals(block, cipher(general, Cipher.DECRYPT_MODE, made).doFinal(sealed));
        });
    }

    private static String signAndVerify(String algorithm, KeyPair keys, byte[] data, boolean fixed) throws Exception {
        return signAndVerify(algorithm, keys.getPrivate(), keys.getPublic(), data, fixed, null);
    }

    private static String signAndVerify(
            String algorithm, PrivateKey key, PublicKey publicKey, byte[] data, boolean fixed, PSSParameterSpec pss)
            throws Exception {
        Signature signer = Signature.getInstance(algorithm, provider);
        signer.initSign(key);
        if (pss != null) {
            signer.setParameter(pss);
        }
        signer.update(data, 0, data.length / 2);
        signer.update(data, data.length / 2, data.length - data.length / 2);
        byte[] signature = signer.sign();
        Signature verifier = Signature.getInstance(algorithm, provider);
        verifier.initVerify(publicKey);
        if (pss != null) {
            verifier.setParameter(pss);
        }
        verifier.update(data);
        boolean good = verifier.verify(signature);
        verifier.update(data, 0, data.length - 1);
        boolean bad;
        try {
            bad = verifier.verify(signature);
        } catch (java.security.SignatureException refused) {
            bad = false;
        }
        if (fixed) {
            signer.update(data);
            expect(Arrays.equals(signature, signer.sign()), "two signatures");
        }
        return good + " " + bad;
    }

    /** The module refuses now and then a signature whose integers are short, so one good one of several is enough. */
    private static String signAndVerifySoon(String algorithm, KeyPair keys, byte[] data) throws Exception {
        String answer = "";
        for (int attempt = 0; attempt < 20 && !answer.equals("true false"); attempt++) {
            answer = signAndVerify(algorithm, keys, data, false);
        }
        return answer;
    }

    private static boolean verifiesElsewhere(String algorithm, KeyPair keys) throws Exception {
        Signature signer = Signature.getInstance(algorithm, provider);
        signer.initSign(keys.getPrivate());
        signer.update(DATA);
        byte[] signature = signer.sign();
        String family = keys.getPublic().getAlgorithm();
        byte[] encoded = keys.getPublic().getEncoded();
        String software = family.equals("EC") ? "SunEC" : family.equals("RSA") ? "SunRsaSign" : "SUN";
        PublicKey outside = KeyFactory.getInstance(family, software)
                .generatePublic(new java.security.spec.X509EncodedKeySpec(encoded));
        Signature verifier = Signature.getInstance(algorithm, software);
        verifier.initVerify(outside);
        verifier.update(DATA);
        return verifier.verify(signature);
    }

    private static KeyPair pair(String algorithm, int bits) throws Exception {
        KeyPairGenerator generator = KeyPairGenerator.getInstance(algorithm, provider);
        generator.initialize(bits);
        return generator.generateKeyPair();
    }

    private static void rsa() throws Exception {
        KeyPair keys = pair("RSA", 2048);
        for (String algorithm : algorithms("Signature")) {
            if (algorithm.endsWith("withRSA")) {
                check("rsa/" + algorithm, () -> signAndVerify(algorithm, keys, DATA, true));
                check("rsa/" + algorithm + "/elsewhere", () -> verifiesElsewhere(algorithm, keys) + "");
            } else if (algorithm.endsWith("withRSASSA-PSS")) {
                check("rsa/" + algorithm, () -> signAndVerify(algorithm, keys, DATA, false));
            }
        }
        for (String hash : List.of("SHA-1", "SHA-224", "SHA-256", "SHA-384", "SHA-512")) {
            MGF1ParameterSpec mgf = new MGF1ParameterSpec(hash);
            PSSParameterSpec pss = new PSSParameterSpec(hash, "MGF1", mgf, 20, 1);
            check("rsa/RSASSA-PSS/" + hash,
                    () -> signAndVerify("RSASSA-PSS", keys.getPrivate(), keys.getPublic(), DATA, false, pss));
        }
        for (int bits : new int[] {512, 1024, 3072}) {
            check("rsa/generate/" + bits, () -> ((RSAPublicKey) pair("RSA", bits).getPublic()).getModulus().bitLength() + "");
        }
        for (String padding : List.of("RSA/ECB/PKCS1Padding", "RSA/ECB/NoPadding")) {
            check("rsa/" + padding + "/private-of-public", () -> rsaThereAndBack(padding, keys.getPublic(), keys.getPrivate()));
            check("rsa/" + padding + "/public-of-private", () -> rsaThereAndBack(padding, keys.getPrivate(), keys.getPublic()));
        }
        check("rsa/wrap", () -> {
            Cipher wrap = Cipher.getInstance("RSA/ECB/PKCS1Padding", provider);
            wrap.init(Cipher.WRAP_MODE, keys.getPublic());
            byte[] wrapped = wrap.wrap(new SecretKeySpec(AES_VALUE, "AES"));
            wrap.init(Cipher.UNWRAP_MODE, keys.getPrivate());
            SecretKey key = (SecretKey) wrap.unwrap(wrapped, "AES", Cipher.SECRET_KEY);
            SecretKey given = SecretKeyFactory.getInstance("AES", provider).translateKey(new SecretKeySpec(AES_VALUE, "AES"));
            byte[] mine = cipher("AES/ECB/NoPadding", Cipher.ENCRYPT_MODE, key).doFinal(new byte[16]);
            byte[] theirs = cipher("AES/ECB/NoPadding", Cipher.ENCRYPT_MODE, given).doFinal(new byte[16]);
            return wrapped.length + " " + Arrays.equals(mine, theirs);
        });
        check("rsa/foreign-keys", () -> {
            KeyPairGenerator generator = KeyPairGenerator.getInstance("RSA", "SunRsaSign");
            generator.initialize(1024);
            KeyPair foreign = generator.generateKeyPair();
            return signAndVerify("SHA256withRSA", foreign, DATA, true);
        });
        check("rsa/translate", () -> {
            KeyFactory factory = KeyFactory.getInstance("RSA", provider);
            BigInteger modulus = ((RSAPublicKey) factory.translateKey(keys.getPublic())).getModulus();
            return modulus.equals(((RSAPublicKey) keys.getPublic()).getModulus()) + "";
        });
    }

    private static String rsaThereAndBack(String padding, java.security.Key there, java.security.Key back) throws Exception {
        byte[] data = new byte[padding.endsWith("NoPadding") ? 256 : 100];
        data[data.length - 1] = 42;
        Cipher cipher = Cipher.getInstance(padding, provider);
        cipher.init(Cipher.ENCRYPT_MODE, there);
        byte[] sealed = cipher.doFinal(data);
        cipher.init(Cipher.DECRYPT_MODE, back);
        return sealed.length + " " + Arrays.equals(data, cipher.doFinal(sealed));
    }

    private static KeyPair curve(String name) throws Exception {
        KeyPairGenerator generator = KeyPairGenerator.getInstance("EC", provider);
        generator.initialize(new ECGenParameterSpec(name));
        return generator.generateKeyPair();
    }

    private static void curves() {
        for (String name : List.of("secp256r1", "secp384r1", "secp521r1")) {
            KeyPair[] keys = new KeyPair[1];
            check("ec/" + name + "/generate", () -> {
                keys[0] = curve(name);
                return keys[0].getPublic().getFormat();
            });
            for (String algorithm : algorithms("Signature")) {
                if (!algorithm.contains("ECDSA")) {
                    continue;
                }
                byte[] data = algorithm.startsWith("NONE") ? Arrays.copyOf(DATA, 32) : DATA;
                check("ec/" + name + "/" + algorithm, () -> signAndVerifySoon(algorithm, keys[0], data));
            }
            check("ec/" + name + "/elsewhere", () -> verifiesElsewhere("SHA256withECDSA", keys[0]) + "");
        }
    }

    private static void others() {
        KeyPair[] keys = new KeyPair[1];
        check("dsa/generate", () -> {
            keys[0] = pair("DSA", 1024);
            return keys[0].getPublic().getFormat();
        });
        for (String algorithm : algorithms("Signature")) {
            if (algorithm.contains("withDSA")) {
                check("dsa/" + algorithm, () -> signAndVerify(algorithm, keys[0], DATA, false));
            }
        }
        check("dsa/elsewhere", () -> verifiesElsewhere("SHA1withDSA", keys[0]) + "");
        check("random/bytes", () -> {
            SecureRandom random = SecureRandom.getInstance("PKCS11", provider);
            byte[] first = new byte[1000];
            byte[] second = new byte[1000];
            random.nextBytes(first);
            random.nextBytes(second);
            return Arrays.equals(first, second) + "";
        });
        check("random/seed", () -> {
            SecureRandom random = SecureRandom.getInstance("PKCS11", provider);
            random.setSeed(DATA);
            return random.generateSeed(20).length + "";
        });
        for (String algorithm : algorithms("SecretKeyFactory")) {
            int length = algorithm.equals("DES") ? 8 : 24;
            check("secret-key-factory/" + algorithm, () -> {
                SecretKeyFactory factory = SecretKeyFactory.getInstance(algorithm, provider);
                byte[] value = new byte[length];
                Arrays.fill(value, (byte) 0x52);
                SecretKey key = factory.translateKey(new SecretKeySpec(value, algorithm));
                return key.getFormat() + " " + (key.getEncoded() == null ? "hidden" : hex(key.getEncoded()));
            });
        }
    }

    private static void agreements() {
        check("agreement/ecdh", () -> agree("ECDH", curve("secp256r1"), curve("secp256r1")));
        check("agreement/ecdh-384", () -> agree("ECDH", curve("secp384r1"), curve("secp384r1")));
        check("agreement/dh", () -> agree("DH", pair("DH", 1024), null));
    }

    private static String agree(String algorithm, KeyPair mine, KeyPair given) throws Exception {
        KeyPair theirs = given;
        if (theirs == null) {
            KeyPairGenerator generator = KeyPairGenerator.getInstance("DH", provider);
            generator.initialize(((javax.crypto.interfaces.DHPublicKey) mine.getPublic()).getParams());
            theirs = generator.generateKeyPair();
        }
        KeyAgreement one = KeyAgreement.getInstance(algorithm, provider);
        one.init(mine.getPrivate());
        one.doPhase(theirs.getPublic(), true);
        KeyAgreement two = KeyAgreement.getInstance(algorithm, provider);
        two.init(theirs.getPrivate());
        two.doPhase(mine.getPublic(), true);
        byte[] secret = one.generateSecret();
        return secret.length + " " + Arrays.equals(secret, two.generateSecret());
    }

    private static void storedKeys() {
        check("store/aliases", () -> new TreeSet<>(Collections.list(store.aliases())).toString());
        check("store/set-secret", () -> {
            store.setKeyEntry("stored aes", new SecretKeySpec(AES_VALUE, "AES"), null, null);
            return store.isKeyEntry("stored aes") + " " + store.size();
        });
        check("store/use-secret", () -> {
            SecretKey key = (SecretKey) store.getKey("stored aes", null);
            return hex(cipher("AES/ECB/NoPadding", Cipher.ENCRYPT_MODE, key).doFinal(new byte[16]));
        });
        check("store/reload", () -> {
            KeyStore again = KeyStore.getInstance("PKCS11", provider);
            again.load(null, pin);
            return again.containsAlias("stored aes") + "";
        });
        check("store/delete", () -> {
            store.deleteEntry("stored aes");
            return store.containsAlias("stored aes") + "";
        });
        check("store/wrong-pin", () -> {
            ((java.security.AuthProvider) provider).logout();
            KeyStore.getInstance("PKCS11", provider).load(null, "87654321".toCharArray());
            return "";
        });
        check("store/login-again", () -> {
            store.load(null, pin);
            keeper = KeyGenerator.getInstance("AES", provider).generateKey();
            return "";
        });
    }

    private static void threads() throws Exception {
        KeyPair rsa = pair("RSA", 2048);
        KeyPair ec = curve("secp256r1");
        SecretKey aes = SecretKeyFactory.getInstance("AES", provider).translateKey(new SecretKeySpec(AES_VALUE, "AES"));
        check("threads/rsa", () -> inThreads(() -> signAndVerify("SHA256withRSA", rsa, DATA, true)));
        check("threads/ec", () -> inThreads(() -> signAndVerifySoon("SHA256withECDSA", ec, DATA)));
        check("threads/ecb", () -> inThreads(() -> hex(cipher("AES/ECB/NoPadding", Cipher.ENCRYPT_MODE, aes).doFinal(new byte[64]))));
        check("threads/ecb-padded", () -> inThreads(() -> hex(cipher("AES/ECB/PKCS5Padding", Cipher.ENCRYPT_MODE, aes).doFinal(DATA))));
        check("threads/cbc", () -> inThreads(() -> hex(cipher("AES/CBC/PKCS5Padding", Cipher.ENCRYPT_MODE, aes).doFinal(DATA))));
        check("threads/gcm", () -> inThreads(() -> hex(cipher("AES/GCM/NoPadding", Cipher.ENCRYPT_MODE, aes).doFinal(DATA))));
        check("threads/digest", () -> inThreads(() -> hex(MessageDigest.getInstance("SHA-256", provider).digest(DATA))));
        check("threads/mac", () -> inThreads(() -> {
            Mac mac = Mac.getInstance("HmacSHA256", provider);
            mac.init(new SecretKeySpec(AES_VALUE, "HmacSHA256"));
            return hex(mac.doFinal(DATA));
        }));
        check("threads/generate", () -> inThreads(() -> curve("secp256r1").getPublic().getFormat()));
        check("threads/many-open", () -> {
            List<Signature> open = new ArrayList<>();
            for (int i = 0; i < 100; i++) {
                Signature signer = Signature.getInstance("SHA256withRSA", provider);
                signer.initSign(rsa.getPrivate());
                signer.update(DATA);
                open.add(signer);
            }
            TreeSet<String> distinct = new TreeSet<>();
            for (Signature signer : open) {
                distinct.add(hex(signer.sign()));
            }
            return distinct.size() + "";
        });
    }

    private static String inThreads(Callable<String> body) throws Exception {
        ExecutorService pool = Executors.newFixedThreadPool(THREADS);
        try {
            List<Future<String>> futures = new ArrayList<>();
            for (int i = 0; i < THREADS; i++) {
                futures.add(pool.submit(() -> {
                    TreeSet<String> seen = new TreeSet<>();
                    for (int round = 0; round < ROUNDS; round++) {
                        seen.add(body.call());
                    }
                    return String.join(",", seen);
                }));
            }
            TreeSet<String> all = new TreeSet<>();
            for (Future<String> future : futures) {
                all.add(future.get());
            }
            return String.join(",", all);
        } finally {
            pool.shutdownNow();
        }
    }

    /** Keys with certificates, as keytool left them: signing with each, and TLS with the token's key on the server. */
    private static void keytoolKeys() throws Exception {
        check("keytool/aliases", () -> new TreeSet<>(Collections.list(store.aliases())).toString());
        for (String alias : new TreeSet<>(Collections.list(store.aliases()))) {
            Certificate certificate = store.getCertificate(alias);
            if (certificate == null) {
                continue;
            }
            check("keytool/" + alias + "/sign", () -> {
                PrivateKey key = (PrivateKey) store.getKey(alias, null);
                String algorithm = "SHA256with" + (key.getAlgorithm().equals("EC") ? "ECDSA" : key.getAlgorithm());
                return signAndVerify(algorithm, key, certificate.getPublicKey(), DATA, false, null);
            });
            for (String protocol : List.of("TLSv1.2", "TLSv1.3")) {
                check("keytool/" + alias + "/" + protocol, () -> handshake(alias, certificate, protocol));
            }
        }
    }

    private static String handshake(String alias, Certificate certificate, String protocol) throws Exception {
        KeyStore trusted = KeyStore.getInstance("PKCS12");
        trusted.load(null, null);
        trusted.setCertificateEntry("server", certificate);
        TrustManagerFactory trust = TrustManagerFactory.getInstance("PKIX");
        trust.init(trusted);
        KeyStore only = KeyStore.getInstance("PKCS11", provider);
        only.load(null, pin);
        KeyManagerFactory keys = KeyManagerFactory.getInstance("SunX509");
        keys.init(only, null);
        String family = certificate.getPublicKey().getAlgorithm();
        javax.net.ssl.X509ExtendedKeyManager manager = new OneAlias((javax.net.ssl.X509ExtendedKeyManager) keys.getKeyManagers()[0], alias, family);
        SSLContext server = SSLContext.getInstance(protocol);
        server.init(new javax.net.ssl.KeyManager[] {manager}, null, null);
        SSLContext client = SSLContext.getInstance(protocol);
        client.init(null, trust.getTrustManagers(), null);
        ExecutorService pool = Executors.newSingleThreadExecutor();
        try (SSLServerSocket listening = (SSLServerSocket) server.getServerSocketFactory()
                .createServerSocket(0, 1, java.net.InetAddress.getLoopbackAddress())) {
            Future<?> serving = pool.submit(() -> {
                try (SSLSocket accepted = (SSLSocket) listening.accept()) {
                    accepted.setSoTimeout(20_000);
                    InputStream in = accepted.getInputStream();
                    OutputStream out = accepted.getOutputStream();
                    out.write(in.readNBytes(DATA.length));
                    out.flush();
                }
                return null;
            });
            String answer;
            try (SSLSocket socket = (SSLSocket) client.getSocketFactory()
                    .createSocket(listening.getInetAddress(), listening.getLocalPort())) {
                socket.setSoTimeout(20_000);
                socket.getOutputStream().write(DATA);
                socket.getOutputStream().flush();
                byte[] echoed = socket.getInputStream().readNBytes(DATA.length);
                String suite = socket.getSession().getProtocol() + " " + socket.getSession().getCipherSuite();
                answer = suite + " " + Arrays.equals(DATA, echoed);
            }
            serving.get();
            return answer;
        } finally {
            pool.shutdownNow();
        }
    }

    /** Always serves with the one key that a check is about. */
    private static final class OneAlias extends javax.net.ssl.X509ExtendedKeyManager {
        private final javax.net.ssl.X509ExtendedKeyManager inner;
        private final String alias;
        private final String family;

        OneAlias(javax.net.ssl.X509ExtendedKeyManager inner, String alias, String family) {
            this.inner = inner;
            this.alias = alias;
            this.family = family;
        }

        @Override
        public String[] getClientAliases(String type, java.security.Principal[] issuers) {
            return null;
        }

        @Override
        public String chooseClientAlias(String[] types, java.security.Principal[] issuers, java.net.Socket socket) {
            return null;
        }

        @Override
        public String[] getServerAliases(String type, java.security.Principal[] issuers) {
            return new String[] {alias};
        }

        @Override
        public String chooseServerAlias(String type, java.security.Principal[] issuers, java.net.Socket socket) {
            return type.startsWith(family) ? alias : null;
        }

        @Override
        public String chooseEngineServerAlias(String type, java.security.Principal[] issuers, javax.net.ssl.SSLEngine engine) {
            return type.startsWith(family) ? alias : null;
        }

        @Override
        public java.security.cert.X509Certificate[] getCertificateChain(String name) {
            return inner.getCertificateChain(name);
        }

        @Override
        public PrivateKey getPrivateKey(String name) {
            return inner.getPrivateKey(name);
        }
    }
}
