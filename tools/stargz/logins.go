package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/containerd/reference"
)

// logins are what "docker login" has left in config.json. Credential helpers are programs and are not called.
type logins struct {
	Auths map[string]struct {
		Auth          string `json:"auth"`
		IdentityToken string `json:"identitytoken"`
	} `json:"auths"`
}

// credentials gives user and password for a registry; both are empty where nobody has logged in. The file is read at
// each call: a job may log in at any time.
func credentials(host string, _ reference.Spec) (string, string, error) {
	directory := os.Getenv("DOCKER_CONFIG")
	if directory == "" {
		directory = filepath.Join(os.Getenv("HOME"), ".docker")
	}
	file := filepath.Join(directory, "config.json")
	text, err := os.ReadFile(file)
	if os.IsNotExist(err) {
		return "", "", nil
	}
	if err != nil {
		return "", "", err
	}
	var known logins
	if err := json.Unmarshal(text, &known); err != nil {
		return "", "", fmt.Errorf("%s: %w", file, err)
	}
	if host == "docker.io" || host == "registry-1.docker.io" {
		host = "https://index.docker.io/v1/" // the name that docker login uses for its own registry
	}
	entry, found := known.Auths[host]
	if !found {
		return "", "", nil
	}
	if entry.IdentityToken != "" {
		return "", entry.IdentityToken, nil
	}
	decoded, err := base64.StdEncoding.DecodeString(entry.Auth)
	if err != nil {
		return "", "", fmt.Errorf("%s: the login for %s cannot be read", file, host)
	}
	user, password, _ := strings.Cut(string(decoded), ":")
	return user, password, nil
}
