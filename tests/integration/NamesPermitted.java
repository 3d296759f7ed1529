import java.io.FileInputStream;
import java.io.InputStream;
import java.security.KeyStore;
import java.security.cert.*;
import java.util.*;
import javax.net.ssl.*;

/** Whether the trust manager of a TLS client takes chains. Arguments: the root, then the chains. One line for each. */
public class NamesPermitted {
    public static void main(String[] arguments) throws Exception {
        var factory = CertificateFactory.getInstance("X.509");
        var store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null, null);
        try (InputStream file = new FileInputStream(arguments[0])) {
            store.setCertificateEntry("root", factory.generateCertificate(file));
        }
        var managers = TrustManagerFactory.getInstance("PKIX");
        managers.init(store);
        var manager = (X509TrustManager) managers.getTrustManagers()[0];
        for (String name : Arrays.copyOfRange(arguments, 1, arguments.length)) {
            try (InputStream file = new FileInputStream(name)) {
                var chain = factory.generateCertificates(file).toArray(new X509Certificate[0]);
                manager.checkServerTrusted(chain, "ECDHE_ECDSA");
                System.out.println("permitted");
            } catch (CertificateException refused) {
                System.out.println("refused");
            }
        }
    }
}
