// Signs in as a GitHub App with GitHub's own client, and uses an installation. Prints one JSON object of what came back.
// Usage: node app.mjs BASE_URL APP_ID ORGANISATION   (the private key comes in the environment as PRIVATE_KEY)
import { App } from "@octokit/app";
import { Octokit } from "@octokit/rest";

const [baseUrl, appId, org] = process.argv.slice(2);
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
