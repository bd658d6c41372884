// Signs in as a GitHub App with GitHub's own client, and uses an installation. Prints one JSON object of what came back.
// Usage: node app.mjs BASE_URL APP_ID ORGANISATION HOOK_URL   (the private key comes in the environment as PRIVATE_KEY)
import { App } from "@octokit/app";
import { Octokit } from "@octokit/rest";

const [baseUrl, appId, org, hookUrl] = process.argv.slice(2);
const silent = { debug() {}, info() {}, warn() {}, error() {} };
const app = new App({ appId, privateKey: process.env.PRIVATE_KEY, Octokit: Octokit.defaults({ baseUrl, log: silent }) });

const found = {};
found.app = (await app.octokit.request("GET /app")).data.slug;
found.installations = [];
for await (const { installation } of app.eachInstallation.iterator()) {
  found.installations.push(installation.account.login);
}
found.repositories = [];
for await (const { repository } of app.eachRepository.iterator()) {
  found.repositories.push(repository.full_name);
}
const apps = app.octokit.rest.apps;
// The method of that name would take the hook's URL for the one to call.
const config = { url: hookUrl, content_type: "json", secret: "octokit's secret" };
found.hook = (await app.octokit.request("PATCH /app/hook/config", { data: config })).data.secret;
found.pointsAt = (await apps.getWebhookConfigForApp()).data.url;
let delivered = [];
while (delivered.length === 0) delivered = (await apps.listWebhookDeliveries()).data;
found.delivered = delivered.map((each) => each.event);
found.redelivered = (await apps.redeliverWebhookDelivery({ delivery_id: delivered[0].id })).status;
const { data: installation } = await app.octokit.rest.apps.getOrgInstallation({ org });
const octokit = await app.getInstallationOctokit(installation.id);
const [owner, repo] = found.repositories[0].split("/");
const wish = { name: "octokit-app", runner_group_id: 1, labels: ["small"] };
found.minted = (await octokit.rest.actions.generateRunnerJitconfigForRepo({ owner, repo, ...wish })).status;
found.runners = (await octokit.paginate(octokit.rest.actions.listSelfHostedRunnersForRepo, { owner, repo })).map((r) => r.name);
found.ofOrganisation = (await octokit.rest.actions.listSelfHostedRunnersForOrg({ org })).status;
found.user = await octokit.rest.users.getAuthenticated().catch((error) => error.status);
found.revoked = (await octokit.rest.apps.revokeInstallationAccessToken()).status;
found.afterwards = await octokit.rest.actions.listSelfHostedRunnersForOrg({ org }).catch((error) => error.status);
console.log(JSON.stringify(found));
