// Gets a URL with one of Java's own clients: java JavaClient.java CLIENT URL
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;

class JavaClient {
    public static void main(String[] args) throws Exception {
        var uri = URI.create(args[1]);
        if (args[0].equals("HttpClient")) {
            // Its default is HTTP/2, for which it asks within TLS.
            var request = HttpRequest.newBuilder(uri).build();
            System.out.print(HttpClient.newHttpClient().send(request, BodyHandlers.ofString()).body());
        } else {
            uri.toURL().openStream().transferTo(System.out);
        }
        System.out.flush();
    }
}
