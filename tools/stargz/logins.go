package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/containerd/containerd/reference"
)

// logins are what "docker login" has left in its config.json. Credential helpers are programs and are not called.
type logins struct {
	Auths map[string]struct {
		Auth          string `json:"auth"`
		IdentityToken string `json:"identitytoken"`
	} `json:"auths"`
}

// readLogins reads a config.json to its end; an empty one holds none.
func readLogins(from io.Reader) (logins, error) {
	var known logins
	text, err := io.ReadAll(from)
	if err != nil || len(text) == 0 {
		return known, err
	}
	if err := json.Unmarshal(text, &known); err != nil {
		return known, fmt.Errorf("logins on standard input: %w", err)
	}
	return known, nil
}

// credentials gives user and password for a registry; both are empty where nobody has logged in.
func (known logins) credentials(host string, _ reference.Spec) (string, string, error) {
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
		return "", "", fmt.Errorf("the login for %s cannot be read", host)
	}
	user, password, _ := strings.Cut(string(decoded), ":")
	return user, password, nil
}
