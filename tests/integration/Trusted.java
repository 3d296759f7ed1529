import java.net.URI;
import javax.net.ssl.HttpsURLConnection;
import javax.net.ssl.SSLException;

/** Whether Java trusts a server by itself, with the roots that it has. Argument: an https address. */
public class Trusted {
    public static void main(String[] arguments) throws Exception {
        var connection = (HttpsURLConnection) URI.create(arguments[0]).toURL().openConnection();
        try {
            connection.connect();
            System.out.println("trusted");
        } catch (SSLException refused) {
            System.out.println("refused: " + refused.getMessage());
        }
    }
}
