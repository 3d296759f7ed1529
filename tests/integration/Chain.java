import java.io.BufferedReader;
import java.io.FileInputStream;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.security.cert.*;
import java.util.*;

/** PKIX with revocation, as Java does it. Argument: the root. Each line: chain file, purpose (OID), CRL files. */
public class Chain {
    public static void main(String[] arguments) throws Exception {
        var factory = CertificateFactory.getInstance("X.509");
        X509Certificate root;
        try (InputStream file = new FileInputStream(arguments[0])) {
            root = (X509Certificate) factory.generateCertificate(file);
        }
        var lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line; (line = lines.readLine()) != null; ) {
            var parts = line.split(" ");
            var crls = new ArrayList<CRL>();
            for (String name : parts[2].split(",")) {
                try (InputStream file = new FileInputStream(name)) {
                    crls.add(factory.generateCRL(file));
                }
            }
            List<X509Certificate> chain = new ArrayList<>();
            try (InputStream file = new FileInputStream(parts[0])) {
                for (Certificate found : factory.generateCertificates(file)) {
                    chain.add((X509Certificate) found);
                }
            }
            var target = new X509CertSelector();
            target.setExtendedKeyUsage(Set.of(parts[1]));
            var rules = new PKIXParameters(Set.of(new TrustAnchor(root, null)));
            rules.setTargetCertConstraints(target);
            rules.addCertStore(CertStore.getInstance("Collection", new CollectionCertStoreParameters(crls)));
            rules.setRevocationEnabled(true);
            try {
                CertPathValidator.getInstance("PKIX").validate(factory.generateCertPath(chain), rules);
                System.out.println("valid");
            } catch (CertPathValidatorException refused) {
                System.out.println("refused: " + refused.getMessage());
            }
        }
    }
}
