"use strict";
const here = location.origin;
document.getElementById("curl").textContent = [
  `curl ${here}/predict -H 'content-type: application/json' -d '{"inputs": "a long, warm, funny film"}'`,
  `curl ${here}/predict -H 'content-type: application/json' -d '{"inputs": ["one text", "another text"]}'`,
  `curl ${here}/explain -H 'content-type: application/json' -d '{"text": "a long, warm, funny film"}'`,
].join("\n");
fetch("/openapi.json").then(async (response) => {
  const description = await response.json();
  for (const [path, methods] of Object.entries(description.paths)) {
    for (const [method, about] of Object.entries(methods)) {
      const title = document.createElement("h2");
      title.textContent = `${method.toUpperCase()} ${path}`;
      const text = document.createElement("p");
      text.textContent = about.description || about.summary || "";
      document.getElementById("paths").append(title, text);
      const body = about.requestBody?.content?.["application/json"]?.schema;
      if (body) {
        const shown = document.createElement("pre");
        shown.textContent = JSON.stringify(body.properties || body, null, 2);
        document.getElementById("paths").append(shown);
      }
      const wrong = Object.entries(about.responses).filter(([status]) => status >= 400);
      if (wrong.length) {
        const told = document.createElement("p");
        const each = wrong.map(([status, answer]) => `${status} ${answer.description}`).join("; ");
        told.textContent = `Errors: ${each}.`;
        document.getElementById("paths").append(told);
      }
    }
  }
});
