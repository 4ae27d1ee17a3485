// Shows the OpenAPI document that lies beside this page; asks nobody else, the validator of swagger.io included.
window.ui = SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null,
});
