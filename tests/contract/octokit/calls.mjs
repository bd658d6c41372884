// The calls that slurm-gha makes, made by GitHub's own client. Prints one JSON object of what came back.
// Usage: node calls.mjs BASE_URL OWNER REPO RUN_ID HOOK_URL   (the token comes in the environment as GITHUB_TOKEN)
import { Octokit } from "@octokit/rest";

const [baseUrl, owner, repo, run, hookUrl] = process.argv.slice(2);
const run_id = Number(run);
const silent = { debug() {}, info() {}, warn() {}, error() {} };
const octokit = new Octokit({ auth: process.env.GITHUB_TOKEN, baseUrl, log: silent });
const here = { owner, repo };

async function refused(promise) {
  try {
    const answer = await promise;
    return { status: answer.status };
  } catch (error) {
    return { status: error.status, message: error.response?.data?.message ?? null };
  }
}

const found = {};
found.user = (await octokit.rest.users.getAuthenticated()).data.login;
found.limit = (await octokit.rest.rateLimit.get()).data.rate.limit;
found.repository = (await octokit.rest.repos.get(here)).data.full_name;
found.repositories = (await octokit.paginate(octokit.rest.repos.listForOrg, { org: owner, per_page: 1 })).map((r) => r.name);

const queued = await octokit.paginate(octokit.rest.actions.listWorkflowRunsForRepo, {
  ...here,
  status: "queued",
  per_page: 2,
});
found.queued = queued.map((each) => each.id);
const first = await octokit.rest.actions.listWorkflowRunsForRepo({ ...here, status: "queued" });
found.unchanged = await refused(
  octokit.rest.actions.listWorkflowRunsForRepo({
    ...here,
    status: "queued",
    headers: { "if-none-match": first.headers.etag },
  }),
);
found.run = (await octokit.rest.actions.getWorkflowRun({ ...here, run_id })).data.status;
const jobs = await octokit.paginate(octokit.rest.actions.listJobsForWorkflowRun, { ...here, run_id, filter: "all" });
found.jobs = jobs.map((each) => ({ name: each.name, status: each.status, labels: each.labels }));
found.job = (await octokit.rest.actions.getJobForWorkflowRun({ ...here, job_id: jobs[0].id })).data.name;
found.log = await refused(octokit.rest.actions.downloadJobLogsForWorkflowRun({ ...here, job_id: jobs[0].id }));

const wish = { name: "octokit-1", runner_group_id: 1, labels: ["self-hosted", "small"], work_folder: "_work" };
for (const [name, actions] of [
  ["ForRepo", here],
  ["ForOrg", { org: owner }],
]) {
  const call = (verb, parameters = {}) => octokit.rest.actions[`${verb}${name}`]({ ...actions, ...parameters });
  const made = await call("generateRunnerJitconfig", wish);
  const runner_id = made.data.runner.id;
  found[name] = {
    status: made.status,
    files: Object.keys(JSON.parse(Buffer.from(made.data.encoded_jit_config, "base64").toString())).sort(),
    taken: await refused(call("generateRunnerJitconfig", wish)),
    listed: (await octokit.paginate(octokit.rest.actions[`listSelfHostedRunners${name}`], { ...actions, name: wish.name }))
      .map((each) => each.name),
    one: (await call("getSelfHostedRunner", { runner_id })).data.status,
    registration: (await call("createRegistrationToken")).data.token.length > 20,
    removal: (await call("createRemoveToken")).data.token.length > 20,
    removed: await refused(octokit.rest.actions[`deleteSelfHostedRunnerFrom${name.slice(3)}`]({ ...actions, runner_id })),
  };
}

async function deliveries(list, number) {
  for (let tries = 0; tries < 200; tries++) {
    const { data } = await list();
    if (data.length >= number) return data;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return [];
}

for (const [name, place] of [
  ["repos", here],
  ["orgs", { org: owner }],
]) {
  const api = octokit.rest[name];
  const config = { url: hookUrl, content_type: "json", secret: "octokit's secret" };
  const made = await api.createWebhook({ ...place, name: "web", events: ["workflow_job"], config });
  const hook = { ...place, hook_id: made.data.id };
  const list = () => api.listWebhookDeliveries(hook);
  const [first] = await deliveries(list, 1);
  const again = await refused(api.redeliverWebhookDelivery({ ...hook, delivery_id: first.id }));
  const both = await deliveries(list, 2);
  found[`hooks of ${name}`] = {
    status: made.status,
    secret: made.data.config.secret,
    listed: (await octokit.paginate(api.listWebhooks, place)).map((each) => each.config.url),
    delivered: { event: first.event, status_code: first.status_code },
    payload: (await api.getWebhookDelivery({ ...hook, delivery_id: first.id })).data.request.payload.hook_id === hook.hook_id,
    again,
    redeliveries: both.map((each) => each.redelivery),
    oneGuid: new Set(both.map((each) => each.guid)).size === 1,
    removed: await refused(api.deleteWebhook(hook)),
  };
}

found.rerunRunning = await refused(octokit.rest.actions.reRunJobForWorkflowRun({ ...here, job_id: jobs[0].id }));
found.cancel = await refused(octokit.rest.actions.cancelWorkflowRun({ ...here, run_id }));
found.cancelAgain = await refused(octokit.rest.actions.cancelWorkflowRun({ ...here, run_id }));
found.forceCancel = await refused(octokit.rest.actions.forceCancelWorkflowRun({ ...here, run_id }));
found.rerunFailed = await refused(octokit.rest.actions.reRunWorkflowFailedJobs({ ...here, run_id }));
found.missing = await refused(octokit.rest.repos.get({ owner, repo: "none" }));
console.log(JSON.stringify(found));
