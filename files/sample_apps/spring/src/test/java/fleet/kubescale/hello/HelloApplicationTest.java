// Copyright: kubescale founders
// SPDX-License-Identifier: Apache-2.0
package fleet.kubescale.hello;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.util.List;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.springframework.boot.SpringApplication;
import org.springframework.context.ConfigurableApplicationContext;

/** The app as a pod runs it, on a free port; a new one for each test, as it counts from its start. */
class HelloApplicationTest {

    private ConfigurableApplicationContext app;

    @BeforeEach
    void start() {
        app = SpringApplication.run(HelloApplication.class, "--server.port=0");
    }

    @AfterEach
    void stop() {
        app.close();
    }

    private HttpResponse<String> get(String path) throws Exception {
        String port = app.getEnvironment().getRequiredProperty("local.server.port");
        HttpRequest request = HttpRequest.newBuilder(URI.create("http://localhost:" + port + path))
            .header("Accept", "application/json, */*")
            .build();
        return HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString());
    }

    private List<String> calls() throws Exception {
        return get("/actuator/prometheus").body().lines().filter(line -> line.startsWith("hello_counter_total")).toList();
    }

    @Test
    void callsAreCountedFromZeroOn() throws Exception {
        assertEquals(List.of("hello_counter_total 0.0"), calls());
        assertEquals("hello", get("/hello").body());
        assertEquals(List.of("hello_counter_total 1.0"), calls());
    }

    @Test
    void aTextIsNotCalledJson() throws Exception {
        assertEquals("text/plain", get("/hello").headers().firstValue("Content-Type").orElse("").split(";")[0]);
    }

    @Test
    void bothProbesAnswer() throws Exception {
        assertEquals(200, get("/actuator/health/liveness").statusCode());
        assertEquals(200, get("/actuator/health/readiness").statusCode());
    }
}
