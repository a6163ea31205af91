// Copyright: kubescale founders
// SPDX-License-Identifier: Apache-2.0
package fleet.kubescale.hello;

import io.micrometer.core.instrument.Counter;
import io.micrometer.core.instrument.MeterRegistry;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.http.MediaType;
import org.springframework.web.bind.annotation.GetMapping;
import org.springframework.web.bind.annotation.RestController;

/** Says hello and counts how often: what Prometheus reads is at /actuator/prometheus. */
@SpringBootApplication
public class HelloApplication {

    public static void main(String[] arguments) {
        SpringApplication.run(HelloApplication.class, arguments);
    }

    @RestController
    static class Hello {

        private final Counter calls;

        /** Registered before the first call: a counter that first shows up at 1 has no rate for that call. */
        Hello(MeterRegistry registry) {
            calls = Counter.builder("hello.counter").description("Calls of /hello.").register(registry);
        }

        @GetMapping(path = "/hello", produces = MediaType.TEXT_PLAIN_VALUE)
        String hello() {
            calls.increment();
            return "hello";
        }
    }
}
